"""Rows of the table, and the file through which a part passes them on, so that a crash loses none.

A part runs in a separate process. It writes a line of JSON for each step that it begins and for
each row, so the file of a process that died has its rows and its last step.
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
# /a/b/c: only the last part is kept. A fraction such as 12/25 or 1.0/s is no path, nor is a URL.
ABSOLUTE_PATH = re.compile(r"(?<![\w./])(?:/[^\s/:;,'\")\]]+){2,}")
LONGEST_TEXT = 400
LEAST_NAME = 4  # shorter names of machines are not looked for


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    part: str  # its block
    name: str  # of the check
    status: str  # OK, or what happened, in words
    figures: Mapping[str, Figure] = field(default_factory=dict)  # heading -> value

    def cleaned(self) -> Row:
        """Without paths and this machine's name; a number that is not finite becomes text."""
        figures = {name: _clean_figure(value) for name, value in self.figures.items()}
        return Row(self.part, clean(self.name), clean(self.status), figures)


@dataclass(frozen=True, slots=True)
class Notes:
    """A part's file of rows."""

    path: Path

    def begin(self, step: str) -> None:
        """Write the step that begins."""
        self._write({"begin": step})

    def add(self, row: Row) -> None:
        """Write a row."""
        self._write({"row": asdict(row)})

    def _write(self, fields: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(fields) + "\n")


def read_notes(path: Path) -> tuple[list[Row], str]:
    """Rows of a part, and its last step; a half-written line is dropped."""
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
    """One line without folders and without this machine's name."""
    text = ABSOLUTE_PATH.sub(lambda match: match[0].rpartition("/")[2], " ".join(text.split()))
    name = platform.node()
    if len(name) >= LEAST_NAME:
        text = text.replace(name, "this machine")
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def _clean_figure(value: Figure) -> Figure:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return clean(value) if isinstance(value, str) else value
