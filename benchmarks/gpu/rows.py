"""Rows of the table, and how a part hands them over: line by line, so that a crash loses none.

A part runs in a process of its own and writes a line of JSON when it begins something and a line
for each row. Whoever reads the file of a process that died knows its rows and what it was at.
"""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OK = "ok"
Figure = float | int | str | None
# /a/b/c: only the last part is kept. A share such as 12/25 or 1.0/s is no path, nor is a URL.
ABSOLUTE_PATH = re.compile(r"(?<![\w./])(?:/[^\s/:;,'\")\]]+){2,}")
LONGEST_TEXT = 400
LEAST_NAME = 4  # letters of a machine's name worth looking for


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    part: str  # block that it stands in
    name: str  # what was tried
    status: str  # OK, or what happened, in words
    figures: Mapping[str, Figure] = field(default_factory=dict)  # heading -> value

    def cleaned(self) -> Row:
        """The same without paths or this machine's name; what is no number is a word."""
        figures = {name: _clean_figure(value) for name, value in self.figures.items()}
        return Row(self.part, clean(self.name), clean(self.status), figures)

    def as_fields(self) -> dict[str, Any]:
        return asdict(self)


class Notes:
    """A part's file of rows."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, step: str) -> None:
        """Say what is about to be done."""
        self._write({"begin": step})

    def add(self, row: Row) -> None:
        """Hand a row over."""
        self._write({"row": row.as_fields()})

    def _write(self, fields: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(fields) + "\n")


def read_notes(path: Path) -> tuple[list[Row], str]:
    """Rows that a part has handed over, and what it began last; a half-written line is dropped."""
    rows: list[Row] = []
    step = "starting"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            fields = json.loads(line)
        except ValueError:
            break
        if "row" in fields:
            rows.append(Row(**fields["row"]))
        else:
            step = fields["begin"]
    return rows, step


def clean(text: str) -> str:
    """One line without paths (the last part stays) and without this machine's name."""
    text = ABSOLUTE_PATH.sub(lambda match: match[0].rpartition("/")[2], " ".join(text.split()))
    name = platform.node()
    if len(name) >= LEAST_NAME:
        text = text.replace(name, "this machine")
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def _clean_figure(value: Figure) -> Figure:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return clean(value) if isinstance(value, str) else value
