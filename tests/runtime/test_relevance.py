"""Which slices are left out by position: stacks of slices 4 mm apart, seen from their middle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import AXIAL, SAGITTAL

from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, SPINAL, SUBARTICULAR
from rsna_lumbar.runtime.decode.slice_selection import LEAST, REACH_MM, relevant, within
from rsna_lumbar.runtime.dicom.header import Geometry
from rsna_lumbar.runtime.dicom.slices import Slice

IMAGE = np.zeros((4, 4), np.uint8)


def one_slice(x_mm: float | None, orientation: list[int] = SAGITTAL, number: int = 1) -> Slice:
    """A slice whose centre lies at x, or of which nothing is known."""
    geometry = None
    if x_mm is not None:
        geometry = Geometry(tuple(map(float, orientation)), (x_mm, 7.0, -300.0))
    return Slice(IMAGE, Path(f"{number}.dcm"), 0, 4, 4, geometry, (1.0, 1.0), number)


def stack(count: int, *, gap_mm: float = 4.0, middle_mm: float = 0.0) -> list[Slice]:
    return [one_slice(middle_mm + (i - (count - 1) / 2) * gap_mm, number=i) for i in range(count)]


def places_mm(slices: tuple[Slice, ...]) -> list[float]:
    return [one.geometry.centre_mm[0] for one in slices if one.geometry]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_nothing_of_nothing(group: object) -> None:
    assert relevant([], group) == ()  # type: ignore[arg-type]


def test_the_canal_of_the_median_study() -> None:
    """17 slices 4 mm apart reach 32 mm to either side: those at 28 and 32 mm go."""
    assert places_mm(relevant(stack(17), SPINAL)) == list(range(-24, 25, 4))


def test_a_stack_off_the_scanners_centre_has_its_own_middle() -> None:
    left = relevant(stack(17, middle_mm=41.0), SPINAL)
    assert places_mm(left) == [41.0 + x for x in range(-24, 25, 4)]


def test_the_foramina_of_the_median_study_are_all_kept() -> None:
    slices = stack(17)
    assert relevant(slices, FORAMINAL) == tuple(slices)


def test_beyond_the_foramina() -> None:
    """The challenge's widest series has 38 slices: 18.5 * 4 = 74 mm to either side."""
    assert places_mm(relevant(stack(38), FORAMINAL)) == list(range(-38, 39, 4))


def test_axial_slices_are_all_kept() -> None:
    slices = [one_slice(4.0 * number, AXIAL, number) for number in range(40)]
    for group in GROUPS:
        assert relevant(slices, group) == tuple(slices)
    assert relevant(stack(40), SUBARTICULAR) == tuple(stack(40))


def test_slices_without_a_place_are_kept_where_they_stood() -> None:
    slices = [one_slice(None), *stack(17), one_slice(None), one_slice(0.0, AXIAL)]
    left = relevant(slices, SPINAL)
    assert (left[0], *left[-2:]) == (slices[0], *slices[-2:])
    assert len(left) == 13 + 3


def test_no_place_at_all_keeps_all() -> None:
    slices = [one_slice(None, number=number) for number in range(20)]
    assert relevant(slices, SPINAL) == tuple(slices)


def test_an_outlying_slice_leaves_the_middle_in_doubt() -> None:
    """A stack of 64 mm and a slice 60 mm off: between the ends lies 30 mm from the median."""
    slices = [*stack(17), one_slice(92.0)]
    assert relevant(slices, SPINAL) == tuple(slices)


def test_one_more_slice_on_a_side_leaves_none() -> None:
    slices = [*stack(17), one_slice(36.0)]  # its middle is 2 mm to the left
    assert places_mm(relevant(slices, SPINAL)) == list(range(-20, 25, 4))


def test_few_slices_are_all_kept() -> None:
    """Five at 20 mm: those within 25 mm are three."""
    slices = stack(5, gap_mm=20.0)
    assert relevant(slices, SPINAL) == tuple(slices)


def test_several_slices_at_one_place_share_its_fate() -> None:
    slices = [one for one in stack(17) for _ in range(3)]
    assert len(relevant(slices, SPINAL)) == 39


@given(
    st.lists(st.none() | st.floats(-80, 80, allow_nan=False).map(lambda x: round(x, 1))),
    st.sampled_from(GROUPS),
)
def test_order_and_what_is_near_stay(places: list[float | None], group: object) -> None:
    slices = [one_slice(x, number=i) for i, x in enumerate(places)]
    left = relevant(slices, group)  # type: ignore[arg-type]
    numbers = [one.instance_number for one in left]
    assert numbers == sorted(numbers)
    gone = [x for i, x in enumerate(places) if i not in numbers]
    assert None not in gone
    if gone:
        known = [x for x in places if x is not None]
        middle = (min(known) + max(known)) / 2
        kept = [abs(places[i] - middle) for i in numbers if places[i] is not None]
        reach = REACH_MM[group.name]  # type: ignore[attr-defined]
        assert max(kept) <= reach < min(abs(x - middle) for x in gone)
        assert len(kept) >= LEAST


def test_another_reach() -> None:
    assert places_mm(within(stack(17), 12.0)) == list(range(-12, 13, 4))
