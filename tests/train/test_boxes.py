"""Sizes and places of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsna_lumbar.runtime.core.preprocess import Placement
from rsna_lumbar.runtime.core.turning import Turn
from rsna_lumbar.train.dataset.boxes import BoxSize, Point, label_line, parse_box_size

ROWS, COLUMNS, SIZE_PX = 48, 64, 32


def box(line: str) -> tuple[int, np.ndarray]:
    index, *numbers = line.split()
    return int(index), np.array(numbers, float)


def test_a_box_is_centred_on_its_point() -> None:
    """Halving 64 x 48 into 32 x 32 puts the point (20, 10) at (9.75, 4.75) + 4 rows of border.

    Centres at whole numbers: (20 + 0.5) / 2 - 0.5 = 9.75. YOLO counts from the border: + 0.5.
    """
    line = label_line(Point(7, 20, 10), Placement(ROWS, COLUMNS, SIZE_PX), (8, 6), 0.0)
    index, numbers = box(line)
    assert index == 7
    expected = [10.25 / 32, (4 + 5.25) / 32, 8 / 32, 6 / 32]
    np.testing.assert_allclose(numbers, expected, atol=1e-6)


def test_a_box_has_a_least_size() -> None:
    place = Placement(ROWS, COLUMNS, SIZE_PX)
    _, numbers = box(label_line(Point(0, 32, 24), place, (0.3, 12.0), 8.0))
    np.testing.assert_allclose(numbers[2:], [0.25, 12 / 32], atol=1e-6)


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.5, 100),
)
def test_a_box_stays_inside_the_image(
    rows: int, columns: int, across: float, down: float, side: float
) -> None:
    place = Placement(rows, columns, 64)
    point = Point(0, across * columns - 0.5, down * rows - 0.5)
    assert point.lies_in(rows, columns)
    _, (x, y, width, height) = box(label_line(point, place, (side, side), 4.0))
    assert width > 0 and height > 0
    assert x - width / 2 >= place.left / 64 - 2e-6
    assert y - height / 2 >= place.top / 64 - 2e-6
    assert x + width / 2 <= (place.left + place.width) / 64 + 2e-6
    assert y + height / 2 <= (place.top + place.height) / 64 + 2e-6


# 64 columns of 0.5 mm and 48 rows of 2 mm in a square of 32: 1 mm across is 1 px of the square,
# 1 mm down a quarter of one.
@pytest.mark.parametrize(
    ("size", "sides_px"),
    [
        (BoxSize(0.25, "share"), (8.0, 6.0)),
        (BoxSize(5, "px"), (5.0, 5.0)),
        (BoxSize(12, "mm"), (12.0, 3.0)),
    ],
)
def test_sides_in_each_unit(size: BoxSize, sides_px: tuple[float, float]) -> None:
    place = Placement(ROWS, COLUMNS, SIZE_PX)
    assert size.sides_px(place, (2.0, 0.5)) == pytest.approx(sides_px)


def test_a_picture_that_was_turned_keeps_its_boxes() -> None:
    """The slice of the tests above, stored transposed and mirrored: 64 rows of 0.5 mm, 48 of 2."""
    turn = Turn(transposed=True, mirrored=True, upside_down=True)
    place, turned = Placement(ROWS, COLUMNS, SIZE_PX), Placement(COLUMNS, ROWS, SIZE_PX, turn)
    sides_px = BoxSize(12, "mm").sides_px(turned, (0.5, 2.0))
    assert sides_px == pytest.approx((12.0, 3.0))
    there = Point(7, ROWS - 1 - 10, COLUMNS - 1 - 20)
    assert label_line(there, turned, sides_px, 0.0) == label_line(
        Point(7, 20, 10), place, sides_px, 0.0
    )


def test_millimetres_need_a_spacing() -> None:
    with pytest.raises(ValueError, match="spacing"):
        BoxSize(12, "mm").sides_px(Placement(ROWS, COLUMNS, SIZE_PX), None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20/384", BoxSize(20 / 384)),
        ("0.05", BoxSize(0.05)),
        ("20px", BoxSize(20, "px")),
        ("12.5 mm", BoxSize(12.5, "mm")),
    ],
)
def test_sizes_are_read(text: str, size: BoxSize) -> None:
    assert parse_box_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "20/0", "-3px", "0mm", "20", "1e999", "nanmm", "3cm"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"box|share|size"):
        parse_box_size(text)
