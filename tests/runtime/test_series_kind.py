"""Telling the kind of a series from its header."""

from __future__ import annotations

import math

import pytest

from rsna_lumbar.runtime.headers import Header
from rsna_lumbar.runtime.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.reasons import Reason
from rsna_lumbar.runtime.series_kind import plane_of, reader_of

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def header(
    orientation: tuple[float, ...] | None,
    echo_time_ms: float | None,
    description: str = "",
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY"),
    *,
    repetition_time_ms: float | None = None,
    inversion_time_ms: float | None = None,
) -> Header:
    return Header(
        "1",
        "2",
        description,
        image_type,
        orientation,
        echo_time_ms,
        repetition_time_ms,
        inversion_time_ms,
    )


@pytest.mark.parametrize(
    ("found", "reader"),
    [
        (header(SAGITTAL, 102), SPINAL),
        (header(SAGITTAL, 45, "SAG STIR"), SPINAL),
        (header(SAGITTAL, 9.4), FORAMINAL),
        (header(AXIAL, 96), SUBARTICULAR),
        (header(AXIAL, 11), Reason.KIND_NOT_NEEDED),
        (header(CORONAL, 90), Reason.KIND_NOT_NEEDED),
        (header(SAGITTAL, None, "Sag T2 FSE"), SPINAL),
        (header(SAGITTAL, None, "t1_tse_sag"), FORAMINAL),
        (header(SAGITTAL, None, "whatever"), Reason.KIND_UNKNOWN),
        (header(None, 100, "Sag T2"), Reason.KIND_UNKNOWN),
        (header(SAGITTAL, 90, "3-plane localizer"), Reason.KIND_NOT_NEEDED),
        (header(AXIAL, 90, "", ("DERIVED", "PRIMARY", "ADC")), Reason.KIND_NOT_NEEDED),
        # a short echo is T1 only with a short repetition or a long inversion
        (header(SAGITTAL, 9, repetition_time_ms=620), FORAMINAL),
        (header(SAGITTAL, 22, repetition_time_ms=2200, inversion_time_ms=860), FORAMINAL),
        (header(SAGITTAL, 25, repetition_time_ms=4000, inversion_time_ms=160), SPINAL),
        (header(SAGITTAL, 15, repetition_time_ms=2600), Reason.KIND_UNKNOWN),
        (header(SAGITTAL, 15, repetition_time_ms=2600, inversion_time_ms=0), Reason.KIND_UNKNOWN),
        (header(SAGITTAL, 15, "sag T1 flair", repetition_time_ms=2000), FORAMINAL),
        (header(AXIAL, 15, repetition_time_ms=2600), Reason.KIND_UNKNOWN),
        # times speak before the description, which people type
        (header(SAGITTAL, 100, "Sag T1 copy of protocol"), SPINAL),
    ],
)
def test_reader_of(found: Header, reader: Group | Reason) -> None:
    assert reader_of(found) is reader


@pytest.mark.parametrize("degrees", [0, 25, 50])
def test_axial_slices_may_be_tilted_to_the_disc(degrees: float) -> None:
    tilt = math.radians(degrees)
    assert plane_of((1, 0, 0, 0, math.cos(tilt), math.sin(tilt))) == "axial"


@pytest.mark.parametrize("degrees", [0, 20, 40])
def test_sagittal_slices_may_be_turned_to_a_scoliosis(degrees: float) -> None:
    turn = math.radians(degrees)
    assert plane_of((math.sin(turn), math.cos(turn), 0, 0, 0, -1)) == "sagittal"
