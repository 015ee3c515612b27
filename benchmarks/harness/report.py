"""Results of a part of the benchmark: a table for a person, JSON and CSV for a program.

A row maps keys to values: text, numbers, ``None`` for what was not measured, or a ``Summary``,
which CSV spreads over columns such as ``slice_ms_median``. Rows may hold more than the table shows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsna_lumbar.runtime.system.atomic_files import write_atomically

NOTHING = "-"  # in the table, for what was not measured
RowValues = Mapping[str, Any]
Condition = str | int | float | None | Sequence[str | int | float]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    key: str  # of a row
    heading: str
    text: Callable[[Any], str]  # of a value; never called with None
    left: bool = False  # flush left; numbers stand flush right


@dataclass(frozen=True, slots=True)
class Results:
    """One part's answer, with what its figures mean nothing without."""

    part: str  # "model", "pipeline", "start"
    command: str  # as typed, without the folders of this machine
    conditions: Mapping[str, Condition]  # machine, versions, threads, rounds, ...
    columns: tuple[Column, ...]
    blocks: tuple[tuple[str, tuple[RowValues, ...]], ...]  # title and rows
    notes: tuple[str, ...]  # sentences: definitions, what could not be had and why


def as_table(results: Results) -> str:
    """The command, one aligned block a title, then notes and conditions."""
    blocks = [f"{title}\n{_aligned(results.columns, rows)}" for title, rows in results.blocks]
    conditions = [f"{name}: {_in_words(value)}" for name, value in results.conditions.items()]
    return "\n\n".join((f"$ {results.command}", *blocks, "\n".join((*results.notes, *conditions))))


def as_json(results: Results) -> str:
    """Everything but how the table looks.

    Raises:
        ValueError: a number is not finite, which JSON has no word for.
    """
    content = {
        "part": results.part,
        "command": results.command,
        "conditions": dict(results.conditions),
        "blocks": [{"title": title, "rows": list(rows)} for title, rows in results.blocks],
        "notes": list(results.notes),
    }
    return json.dumps(content, indent=2, allow_nan=False, default=_plain) + "\n"


def as_csv(results: Results) -> str:
    """A line a row: the block's title, the row's values, and the conditions in every line."""
    conditions = {name: _in_words(value) for name, value in results.conditions.items()}
    lines = [
        {"block": title, **_flat(row), **conditions}
        for title, rows in results.blocks
        for row in rows
    ]
    text = io.StringIO()
    names = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({key: _short(value) for key, value in line.items()})
    return text.getvalue()


def write_outputs(results: Results, *, json_path: Path | None, csv_path: Path | None) -> None:
    """Write the files that are asked for, each replacing the old one at once.

    Raises:
        OSError: a file cannot be written.
    """
    if json_path:
        write_atomically(json_path, as_json(results))
    if csv_path:
        write_atomically(csv_path, as_csv(results))


def _aligned(columns: Sequence[Column], rows: Sequence[RowValues]) -> str:
    cells = [[one.heading for one in columns]]
    cells += [[_cell(one, row.get(one.key)) for one in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if one.left else cell.rjust(width)
            for one, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in cells
    )
    return "\n".join(lines)


def _cell(column: Column, value: Any) -> str:
    return NOTHING if value is None else column.text(value)


def _flat(row: RowValues) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        plain = _plain(value) if is_dataclass(value) else value
        if isinstance(plain, Mapping):
            found.update({f"{key}_{name}": one for name, one in _flat(plain).items()})
        elif plain is not None:  # left empty, also where others have a Summary
            found[key] = plain
    return found


def _plain(value: Any) -> Any:
    """What json does not know: records and numpy's numbers and arrays."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"no JSON for a {type(value).__name__}")


def _in_words(value: Condition) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_short, value))
    return _short(value)


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return " ".join(map(_short, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
