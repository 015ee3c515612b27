"""Numbering of the anchor grids."""

from __future__ import annotations

import pytest

from rsna_lumbar.runtime.core.anchors import cell_centre, cell_count


def test_counts() -> None:
    assert cell_count(384) == 48**2 + 24**2 + 12**2
    assert cell_count(640) == 8400


@pytest.mark.parametrize(
    ("cell", "centre"),
    [(0, (3.5, 3.5)), (1, (11.5, 3.5)), (8, (3.5, 11.5)), (64, (7.5, 7.5)), (80, (15.5, 15.5)),
     (83, (47.5, 47.5))],
)  # fmt: skip
def test_centres_of_a_64_px_slice(cell: int, centre: tuple[float, float]) -> None:
    assert cell_centre(cell, 64) == centre


def test_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        cell_centre(84, 64)
