"""Names as CSV cells: escaped against formula injection, and restored unchanged when read."""

from __future__ import annotations

from collections.abc import Sequence

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def csv_line(cells: Sequence[str]) -> str:
    """Cells as one line of CSV, escaped against formula injection."""
    return ",".join(map(_cell, cells))


def as_named(cell: str) -> str:
    """A name as it was before :func:`csv_line` put an apostrophe in front of it."""
    return cell[1:] if cell.startswith("'") and _would_be_formula(cell) else cell


def _cell(text: str) -> str:
    """A cell, quoted if necessary (RFC 4180); a leading apostrophe escapes a formula."""
    if _would_be_formula(text):
        text = "'" + text
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _would_be_formula(text: str) -> bool:
    """Also true behind apostrophes, so that every cell decodes to one name only."""
    return text.lstrip("'").startswith(FORMULA_SIGNS)
