"""Who reads each series of a study: parts, sizes, copies of the same anatomy, what is left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.core.reasons import Reason, Skip
from rsna_lumbar.runtime.dicom.acquisition import Acquisition
from rsna_lumbar.runtime.dicom.header import Header, Vector
from rsna_lumbar.runtime.studies.series_parts import Found, parts_of
from rsna_lumbar.runtime.studies.series_readers import Rows, series_of
from rsna_lumbar.runtime.studies.study import Series

SAG = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
AX = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
COR = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
T1 = Acquisition(description="T1", echo_ms=10, repetition_ms=600, body_part="LSPINE")
T2 = Acquisition(description="T2", echo_ms=100, repetition_ms=3500, body_part="LSPINE")


NUMBERS = count()  # no two files are called alike


def stack(
    name: str,
    how: Acquisition,
    orientation: Vector | None = SAG,
    slices: int = 15,
    *,
    start_mm: float = 0.0,
    gap_mm: float = 4.0,
    height_mm: float = 0.0,
    side_px: int = 300,
    number: float | None = None,
) -> list[Found]:
    """Files of a stack: sagittal ones from the right, axial ones from the feet; pixels of 1 mm."""
    found = []
    for index in range(slices):
        along = start_mm + gap_mm * index
        centre = (along, 0.0, height_mm) if orientation is SAG else (0.0, 0.0, height_mm + along)
        header = Header(
            study_uid="1",
            series_uid=name,
            patient="",
            frame_of_reference_uid="1.9",
            is_mr=True,
            series_number=number,
            time="",
            rows=side_px,
            columns=side_px,
            acquisitions=(how,),
            orientations=(orientation,),
            centres_mm=(centre if orientation else None,),
            spacing_mm=(1.0, 1.0),
            frames=1,
        )
        found.append(Found(Path(f"{name}/{next(NUMBERS)}"), header))
    return found


def told(
    *stacks: Sequence[Found], is_spine: bool = False, listed: dict[str, Group | None] | None = None
) -> tuple[dict[str, str | None], dict[str, Reason]]:
    """Series -> detector; series -> why it is left out."""
    series, skips = looked(*stacks, is_spine=is_spine, listed=listed)
    return (
        {one.series_id: one.group.name if one.group else None for one in series},
        {skip.what: skip.reason for skip in skips},
    )


def looked(
    *stacks: Sequence[Found], is_spine: bool = False, listed: dict[str, Group | None] | None = None
) -> tuple[list[Series], list[Skip]]:
    members: dict[str, list[Found]] = {}
    for one in stacks:
        members.setdefault(one[0].header.series_uid, []).extend(one)
    names = {key: key for key in members}
    return series_of("1", members, names, names, Rows(listed or {}), is_spine=is_spine)


def untold(how: Acquisition) -> Acquisition:
    """Without a word of the body part."""
    return replace(how, body_part="")


def test_nothing_is_nothing() -> None:
    assert looked() == ([], [])


def test_an_ordinary_study() -> None:
    groups, skips = told(stack("a", T1), stack("b", T2), stack("c", T2, AX, 30))
    assert groups == {"a": "foraminal", "b": "spinal", "c": "subarticular"}
    assert skips == {}


# Parts of one series


def test_one_uid_over_a_whole_study() -> None:
    groups, skips = told(stack("a", T2), stack("a", T1), stack("a", T2, AX, 30))
    assert groups == {"a": "subarticular", "a~2": "spinal", "a~3": "foraminal"}
    assert skips == {"a": Reason.REGROUPED}


def test_one_uid_over_a_study_of_very_many_axial_slices() -> None:
    """What is few beside the whole is a series of its own all the same."""
    groups, _ = told(stack("a", T1, slices=13), stack("a", T2, slices=13), stack("a", T2, AX, 110))
    assert groups == {"a": "subarticular", "a~2": "foraminal", "a~3": "spinal"}


def test_few_frames_of_another_plane_or_echo_in_a_file_are_not_read() -> None:
    """The header of an enhanced file was written in one piece: nothing in it is a stray."""
    one = stack("a", T2, slices=1)[0]
    planes = (*(SAG,) * 20, *(AX,) * 2, *(COR,) * 2)
    odd = replace(T2, echo_ms=12)  # density
    hows = (*(T2,) * 18, odd, odd, *(T2,) * 4)
    centres = tuple((4.0 * (i % 20), 0.0, 0.0) for i in range(24))
    header = replace(
        one.header, acquisitions=hows, orientations=planes, centres_mm=centres, frames=24
    )
    series, _ = looked([Found(one.path, header)])
    assert {one.group: one.frames[one.files[0]] for one in series if one.group} == {
        SPINAL: frozenset(range(18))
    }


def test_two_echoes_of_one_series() -> None:
    """The T2 echoes are read; density is nobody's."""
    density = replace(T2, echo_ms=12, description="PD_T2")
    series, _ = looked(stack("a", replace(T2, description="PD_T2")), stack("a", density))
    assert [(one.series_id, one.group, one.facts and one.facts.echo_ms) for one in series] == [
        ("a", SPINAL, 100),
        ("a~2", None, 12),
    ]


def test_echoes_of_a_series_that_differ_a_little_are_one() -> None:
    frames = stack("a", T2, AX, 10) + stack("a", replace(T2, echo_ms=104.5), AX, 10, start_mm=40)
    assert len(parts_of("a", frames)) == 1


def test_frames_of_one_file_are_told_apart() -> None:
    """An enhanced file with three planes, of which two are a detector's."""
    one = stack("a", T2, slices=1)[0]
    frames = [*(SAG,) * 9, *(AX,) * 9, *(COR,) * 9]
    centres = tuple((4.0 * (i % 9), 0.0, 4.0 * (i % 9)) for i in range(27))
    header = replace(one.header, orientations=tuple(frames), centres_mm=centres, frames=27)
    series, _ = looked([Found(one.path, header)])
    read = {one.group: one.frames[one.files[0]] for one in series if one.group}
    assert read == {SPINAL: frozenset(range(9)), SUBARTICULAR: frozenset(range(9, 18))}


def test_few_odd_headers_belong_to_their_series() -> None:
    groups, skips = told(stack("a", T2, slices=12), stack("a", T1, slices=2, start_mm=48))
    assert (groups, skips) == ({"a": "spinal"}, {})


@pytest.mark.parametrize("silent", [3, 14])
def test_headers_that_say_nothing_belong_to_those_that_do(silent: int) -> None:
    nothing = Acquisition(body_part="LSPINE")
    frames = [*stack("a", T2, slices=15 - silent), *stack("a", nothing, None, silent)]
    series, _ = looked(frames)
    assert [(one.group, len(one.files)) for one in series] == [(SPINAL, 15)]


@pytest.mark.parametrize(("count", "thickness"), [(3, None), (1, None), (7, None), (5, 10.0)])
def test_localizers_by_what_they_are(count: int, thickness: float | None) -> None:
    how = replace(T2, thickness_mm=thickness, description="")
    planes = (SAG,) if thickness else (SAG, AX, COR)
    frames = [one for plane in planes for one in stack("a", how, plane, count)]
    groups, skips = told(frames)
    assert set(groups.values()) == {None}
    assert skips["a"] is Reason.KIND_NOT_NEEDED


# The same anatomy


def test_of_t2_and_stir_one_is_read() -> None:
    stir = replace(T2, echo_ms=60, inversion_ms=150, description="STIR")
    groups, skips = told(stack("a", stir, slices=17), stack("b", T2))
    assert groups == {"a": None, "b": "spinal"}
    assert skips == {"a": Reason.SAME_ANATOMY}
    assert told(stack("a", stir))[0] == {"a": "spinal"}


def test_of_a_repeat_the_later_one_is_read_and_of_a_fragment_the_whole() -> None:
    groups, _ = told(stack("a", T2, number=5), stack("b", T2, number=4))
    assert groups == {"a": "spinal", "b": None}
    groups, _ = told(stack("a", T2, slices=6, number=5), stack("b", T2, number=4))
    assert groups == {"a": None, "b": "spinal"}


def test_the_name_of_a_series_decides_last_and_always_alike() -> None:
    first, second = stack("a", T2), stack("b", T2)
    assert told(first, second) == told(second, first)


def test_series_that_cover_different_parts_are_all_read() -> None:
    """Axial slices of three discs in one series, of two in another; sagittal ones of two halves."""
    upper = [one for z in (40, 80, 120) for one in stack("a", T2, AX, 4, start_mm=z)]
    lower = [one for z in (0, 60) for one in stack("b", T2, AX, 4, start_mm=z, gap_mm=3.5)]
    groups, _ = told(upper, lower)
    assert groups == {"a": "subarticular", "b": "subarticular"}
    groups, skips = told(stack("a", T1, slices=8), stack("b", T1, slices=8, start_mm=40))
    assert groups == {"a": "foraminal", "b": "foraminal"}
    assert skips == {}


def test_a_stack_at_each_disc_shows_what_a_whole_one_does() -> None:
    at_discs = [one for z in (0, 30, 60, 90) for one in stack("b", T2, AX, 4, start_mm=z)]
    groups, _ = told(stack("a", T2, AX, 30), at_discs)
    assert groups == {"a": "subarticular", "b": None}


def test_slices_of_one_series_that_interleave_are_all_read() -> None:
    """Two sizes in one series, every second slice."""
    even = stack("a", T2, AX, 10, gap_mm=8)
    odd = stack("a", T2, AX, 10, start_mm=4, gap_mm=8, side_px=256)
    series, skips = looked(even, odd)
    assert [(one.group, len(one.files)) for one in series] == [(SUBARTICULAR, 20)]
    assert skips == []


# Sizes, where nothing names a body part


@pytest.mark.parametrize(
    ("side_px", "count", "gap_mm"),
    [(160, 15, 4.0), (600, 15, 4.0), (256, 30, 5.0)],
    ids=["knee", "whole body", "brain"],
)
def test_what_has_not_the_size_of_a_lumbar_spine_is_left_to_a_person(
    side_px: int, count: int, gap_mm: float
) -> None:
    one = stack("a", untold(T2), slices=count, gap_mm=gap_mm, side_px=side_px)
    assert told(one) == ({"a": None}, {"a": Reason.KIND_UNKNOWN})
    named = stack("a", T2, slices=count, gap_mm=gap_mm, side_px=side_px)
    assert told(named)[0] == told(one, is_spine=True)[0] == {"a": "spinal"}


def test_one_odd_position_decides_nothing() -> None:
    odd = stack("a", untold(T2), slices=1, start_mm=900, height_mm=900)
    assert told([*stack("a", untold(T2)), *odd])[0] == {"a": "spinal"}


def test_an_axial_series_is_read_beside_a_sagittal_one_at_its_height() -> None:
    axial = stack("b", untold(T2), AX, 20)
    assert told(axial) == ({"b": None}, {"b": Reason.KIND_UNKNOWN})
    beside = stack("a", untold(T1))
    assert told(beside, axial)[0] == {"a": "foraminal", "b": "subarticular"}
    above = stack("b", untold(T2), AX, 20, height_mm=400)
    assert told(beside, above)[0] == {"a": "foraminal", "b": None}


def test_of_stations_the_lowest_is_the_lumbar_spine() -> None:
    stations = [
        stack(name, untold(T2), height_mm=height)
        for name, height in (("neck", 500), ("chest", 250), ("back", 0))
    ]
    groups, skips = told(*stations)
    assert groups == {"back": "spinal", "chest": None, "neck": None}
    assert set(skips.values()) == {Reason.KIND_NOT_NEEDED}  # no kind is missing for them


def test_one_station_of_a_whole_spine_is_left_to_a_person() -> None:
    """As in published files: a cervical station of a study called cervico-dorso-lumbar."""
    whole = replace(T2, body_part="SPINE", study_description="COLONNE CERVICO-DORSO-LOMBAIRE")
    one = stack("a", whole)
    assert told(one) == ({"a": None}, {"a": Reason.KIND_UNKNOWN})
    assert told(one, stack("b", whole, height_mm=300))[0] == {"a": "spinal", "b": None}
    named = replace(whole, description="T2 SAG LUMBAR")
    assert told(stack("a", named))[0] == {"a": "spinal"}


def test_a_stack_of_slices_comes_before_a_solid() -> None:
    """Detectors see slices some millimetres thick; a 3D series has many thin ones."""
    solid = replace(T2, description="Cube T2", acquisition_type="3D")
    groups, _ = told(stack("a", solid, AX, 120, gap_mm=1), stack("b", T2, AX, 30))
    assert groups == {"a": None, "b": "subarticular"}
    assert told(stack("a", solid, AX, 120, gap_mm=1))[0] == {"a": "subarticular"}


def test_what_cannot_be_told_is_a_fault_only_where_its_kind_is_missing() -> None:
    contrast = replace(T1, description="T1 +C")
    assert told(stack("a", contrast))[1] == {"a": Reason.KIND_UNKNOWN}
    assert told(stack("a", contrast), stack("b", T1))[1] == {"a": Reason.KIND_NOT_NEEDED}


# Headers without times, as those of the challenge


def test_what_the_others_leave_over() -> None:
    silent = Acquisition()
    named = Acquisition(description="T1")
    series, _ = looked(
        stack("a", named), stack("b", silent), stack("c", silent, AX, 30), is_spine=True
    )
    assert [(one.series_id, one.group, one.group_from) for one in series] == [
        ("a", FORAMINAL, "header"),
        ("b", SPINAL, "other series"),
        ("c", SUBARTICULAR, "other series"),
    ]
    groups, _ = told(stack("a", silent), stack("b", silent), is_spine=True)
    assert groups == {"a": None, "b": None}
    discs = (
        stack("c", silent, AX, 8),
        stack("d", Acquisition(description="T2"), AX, 8, start_mm=90),
    )
    assert told(*discs, is_spine=True)[0] == {"c": "subarticular", "d": "subarticular"}
    with_times = told(stack("a", untold(T1)), stack("b", silent), is_spine=True)
    assert with_times[0] == {"a": "foraminal", "b": None}


def test_a_table_comes_before_the_choice_of_one() -> None:
    """Where it takes one away, the copy of it is read; where it names one, the copy is not."""
    whole, copy = stack("a", T2, slices=17), stack("b", T2)
    assert told(whole, copy)[0] == {"a": "spinal", "b": None}
    assert told(whole, copy, listed={"a": None})[0] == {"a": None, "b": "spinal"}
    assert told(whole, copy, listed={"b": SPINAL})[0] == {"a": None, "b": "spinal"}
    assert told(whole, copy, listed={"a": SPINAL, "b": SPINAL})[0] == dict.fromkeys("ab", "spinal")


def test_a_row_of_a_series_means_the_parts_of_its_kind() -> None:
    density = replace(T2, echo_ms=12, description="PD")
    both = [*stack("a", density, slices=16), *stack("a", T2, slices=15)]
    assert told(both, listed={"a": SPINAL})[0] == {"a": None, "a~2": "spinal"}
    assert told(both, listed={"a": FORAMINAL})[0] == {"a": "foraminal"}
    assert told(both, listed={"a~2": None})[0] == {"a": None, "a~2": None}


def test_a_row_of_a_part_that_is_not_there_is_not_used() -> None:
    rows = Rows({"a": SPINAL, "a~2": SUBARTICULAR})
    series_of("1", {"a": stack("a", T2)}, {"a": "a"}, {"a": "a"}, rows, is_spine=False)
    assert rows.used == {"a"}


def test_names_of_parts_are_no_names_of_series() -> None:
    """A folder is called as the second part of another would be."""
    mixed = [*stack("a", T2, slices=16), *stack("a", T1, slices=15)]
    members = {"a": mixed, "b": stack("b", T2, AX, 20)}
    names = {"a": "11", "b": "11~2"}
    series, _ = series_of("1", members, names, names, Rows(), is_spine=False)
    assert {one.series_id: one.group for one in series} == {
        "11": SPINAL, "11~3": FORAMINAL, "11~2": SUBARTICULAR,
    }  # fmt: skip


def in_frame(found: list[Found], uid: str) -> list[Found]:
    return [replace(f, header=replace(f.header, frame_of_reference_uid=uid)) for f in found]


def test_positions_in_another_frame_of_reference_are_not_compared() -> None:
    """The patient was laid down anew: sagittal repeats are copies, axial stacks may not be."""
    again = in_frame(stack("b", T2, height_mm=300), "1.10")
    assert told(stack("a", T2), again)[0] == {"a": "spinal", "b": None}
    elsewhere = in_frame(stack("c", untold(T1), height_mm=300), "1.10")
    assert told(stack("a", untold(T2)), elsewhere)[0] == {"a": "spinal", "c": "foraminal"}
    axial = in_frame(stack("b", T2, AX, 30), "1.10")
    assert told(stack("a", T2, AX, 30), axial)[0] == {"a": "subarticular", "b": "subarticular"}


def test_of_the_echoes_of_a_map_the_usual_one_is_read() -> None:
    echoes = [one for echo in (30, 60, 90, 130) for one in stack("a", replace(T2, echo_ms=echo))]
    series, _ = looked(echoes)
    assert [one.facts and one.facts.echo_ms for one in series if one.group] == [90]


def test_a_table_decides_whatever_headers_say() -> None:
    listed: dict[str, Group | None] = {"a": FORAMINAL, "b": None}
    series, skips = looked(stack("a", T2), stack("b", T1), listed=listed)
    assert [(one.series_id, one.group, one.group_from) for one in series] == [
        ("a", FORAMINAL, "table"),
        ("b", None, "table"),
    ]
    assert [skip.reason for skip in skips] == [Reason.KIND_NOT_NEEDED]
