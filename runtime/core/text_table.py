"""Rows of cells as text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest


def aligned(
    rows: Sequence[Sequence[str]], *, names: int = 1, left: Sequence[bool] | None = None
) -> str:
    """Align columns to their widest cell; rows may be shorter than others.

    Args:
        rows: the cells, headings included.
        names: this many first columns are aligned left, the others right.
        left: instead of ``names``: for each column, whether it is aligned left.
    """
    columns = []
    for place, cells in enumerate(zip_longest(*rows, fillvalue="")):
        width = max(map(len, cells))
        to_left = left[place] if left else place < names
        columns.append([cell.ljust(width) if to_left else cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))
