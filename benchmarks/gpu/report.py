"""The two files: rows as JSON for a program, as a table for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rsna_lumbar.benchmarks.gpu.rows import OK, Figure, Row


@dataclass(frozen=True, slots=True)
class Report:
    """Rows and what they mean nothing without."""

    date: str  # UTC
    conditions: tuple[str, ...]
    notes: Mapping[str, tuple[str, ...]]  # part -> lines under its block
    rows: tuple[Row, ...]


def as_json(report: Report) -> str:
    """Everything, for a program."""
    fields = {
        "date": report.date,
        "conditions": report.conditions,
        "rows": [row.as_fields() for row in report.rows],
    }
    return json.dumps(fields, indent=1) + "\n"


def as_text(report: Report) -> str:
    """A block a part, in the order of the rows, and the conditions below."""
    parts = dict.fromkeys(row.part for row in report.rows)
    blocks = []
    for part in parts:
        lines = [part, *_block([row for row in report.rows if row.part == part])]
        blocks.append("\n".join((*lines, *report.notes.get(part, ()))))
    return "\n\n".join((*blocks, "\n".join((*report.conditions, f"date: {report.date}")))) + "\n"


def _block(rows: Sequence[Row]) -> list[str]:
    """Lines of equal columns; the status last, since it may be long."""
    headings = list(dict.fromkeys(name for row in rows for name in row.figures))
    if headings in ([], ["what"]):
        cells = [[row.name, str(row.figures.get("what", row.status))] for row in rows]
    else:
        cells = [["", *headings, ""]]
        cells += [
            [
                row.name,
                *(_shown(row.figures.get(name)) for name in headings),
                "" if row.status == OK else row.status,
            ]
            for row in rows
        ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def _shown(value: Figure) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
