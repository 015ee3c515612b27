"""The anchor grids of YOLOv8: the pixel that a cell of the score graph corresponds to.

The class branch scores three grids, P3, P4 and P5, with S / 8, S / 16 and S / 32 cells per side.
The graph numbers the cells one grid after the other, each grid row by row.
"""

from __future__ import annotations

STRIDES_PX = (8, 16, 32)
LARGEST_STRIDE = STRIDES_PX[-1]


def cell_centre(cell: int, size_px: int) -> tuple[float, float]:
    """(x, y) of a cell's centre in the square; in pixels, with pixel centres at whole numbers."""
    for stride in STRIDES_PX:
        side = size_px // stride
        if cell < side * side:
            row, column = divmod(cell, side)
            return (column + 0.5) * stride - 0.5, (row + 0.5) * stride - 0.5
        cell -= side * side
    raise ValueError(f"cell lies outside the grids of a slice of {size_px} px")
