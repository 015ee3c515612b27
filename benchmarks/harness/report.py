"""Results of a benchmark: a table to read, JSON and CSV for programs.

A row maps keys to text, numbers, ``None`` (not measured) or a ``Summary``, which CSV spreads over
columns such as ``slice_ms_median``. Rows may hold more than the table shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rsna_lumbar.benchmarks.harness.timing import Summary
from rsna_lumbar.runtime.core.text_table import aligned
from rsna_lumbar.runtime.system.atomic_files import write_atomically

NOT_MEASURED = "-"
RowValues = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    key: str  # of a row
    heading: str
    text: str = ""  # format of a value, such as "{.median:.2f}"
    left: bool = False  # aligned left; only the first columns can be


@dataclass(frozen=True, slots=True)
class Block:
    """Rows under the same headings."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[RowValues, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """What a benchmark measured, and under which conditions."""

    part: str  # "model", "pipeline", "start", ...
    command: str  # as typed, without the folders of this machine
    conditions: Mapping[str, str | int]  # machine, versions, threads, rounds, ...
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]  # sentences: definitions, what is not available here and why

    def rows_with(self, key: str) -> list[RowValues]:
        """Of all blocks, the rows that have a key."""
        return [row for block in self.blocks for row in block.rows if key in row]


def as_table(results: Results) -> str:
    """The command, one aligned table per block, then notes and conditions."""
    blocks = [f"{one.title}\n{_table(one)}" for one in results.blocks]
    conditions = [f"{name}: {value}" for name, value in results.conditions.items()]
    return "\n\n".join((f"$ {results.command}", *blocks, "\n".join((*results.notes, *conditions))))


def as_json(results: Results) -> str:
    """Everything except the columns.

    Raises:
        ValueError: a number is not finite, which JSON cannot express.
    """
    content = {
        "part": results.part,
        "command": results.command,
        "conditions": dict(results.conditions),
        "blocks": [{"title": one.title, "rows": list(one.rows)} for one in results.blocks],
        "notes": list(results.notes),
    }
    return json.dumps(content, indent=2, allow_nan=False, default=asdict) + "\n"


def as_csv(results: Results) -> str:
    """One line per row: the title of its block, its values, and the conditions."""
    lines = [
        {"block": one.title, **_flat(row), **results.conditions}
        for one in results.blocks
        for row in one.rows
    ]
    return pd.DataFrame(lines).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def write_outputs(
    results: Results,
    json_path: Path | None,
    csv_path: Path | None,
    plot_path: Path | None,
    draw: Callable[[Results, Path], None],
) -> None:
    """Write the requested files, each by atomic replacement.

    Raises:
        UsageError: a plot is requested and matplotlib is not installed.
        OSError: a file cannot be written.
    """
    if json_path:
        write_atomically(json_path, as_json(results))
    if csv_path:
        write_atomically(csv_path, as_csv(results))
    if plot_path:
        draw(results, plot_path)


def _table(block: Block) -> str:
    cells = [[one.heading for one in block.columns]]
    cells += [[_cell(one, row.get(one.key)) for one in block.columns] for row in block.rows]
    return aligned(cells, names=sum(one.left for one in block.columns))


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return NOT_MEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.text:
        return column.text.format(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _flat(row: RowValues) -> dict[str, Any]:
    """A Summary as several values; nothing for what was not measured."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Summary):
            found |= {f"{key}_{name}": one for name, one in asdict(value).items()}
        elif value is not None:
            found[key] = value
    return found
