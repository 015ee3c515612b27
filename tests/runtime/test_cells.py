"""Numbering of the anchor grids."""

from __future__ import annotations

import pytest

from rsna_lumbar.runtime.core.anchors import cell_centre


@pytest.mark.parametrize(
    ("cell", "centre"),
    [(0, (3.5, 3.5)), (1, (11.5, 3.5)), (8, (3.5, 11.5)), (64, (7.5, 7.5)), (80, (15.5, 15.5)),
     (83, (47.5, 47.5))],
)  # fmt: skip
def test_centres_of_a_64_px_slice(cell: int, centre: tuple[float, float]) -> None:
    assert cell_centre(cell, 64) == centre


@pytest.mark.parametrize(("size_px", "cells"), [(64, 84), (384, 3024), (640, 8400)])
def test_outside_is_refused(size_px: int, cells: int) -> None:
    assert cell_centre(cells - 1, size_px) == (size_px - 16.5, size_px - 16.5)
    with pytest.raises(ValueError, match="outside"):
        cell_centre(cells, size_px)
