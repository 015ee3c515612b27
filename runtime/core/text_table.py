"""Rows of cells as text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest


def aligned(rows: Sequence[Sequence[str]], *, names: int = 1) -> str:
    """Align columns to their widest cell; rows may be shorter than others.

    Args:
        rows: the cells, headings included.
        names: this many first columns are aligned left, the others right.
    """
    columns = []
    for place, cells in enumerate(zip_longest(*rows, fillvalue="")):
        width = max(map(len, cells))
        columns.append([c.ljust(width) if place < names else c.rjust(width) for c in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))
