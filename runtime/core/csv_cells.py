"""Names as cells of CSV files: no spreadsheet takes one for a formula, none is changed."""

from __future__ import annotations

from collections.abc import Sequence

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def csv_line(cells: Sequence[str]) -> str:
    """Cells as a line of CSV, none of which a spreadsheet takes for a formula."""
    return ",".join(map(_cell, cells))


def as_named(cell: str) -> str:
    """A name as it was before :func:`csv_line` put an apostrophe before it."""
    return cell[1:] if cell.startswith("'") and _would_be_formula(cell) else cell


def _cell(text: str) -> str:
    """A cell, quoted where it has to be (RFC 4180); with an apostrophe a formula is none."""
    if _would_be_formula(text):
        text = "'" + text
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _would_be_formula(text: str) -> bool:
    """Also behind apostrophes, so that each cell comes back as one name alone."""
    return text.lstrip("'").startswith(FORMULA_SIGNS)
