"""Telling the kind of a frame from how it was acquired."""

from __future__ import annotations

import math

import pytest

from rsna_lumbar.runtime.acquisition import Acquisition
from rsna_lumbar.runtime.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.reasons import Reason
from rsna_lumbar.runtime.series_kind import plane_of, verdict

SAG, AX, COR = "sagittal", "axial", "coronal"
NOBODYS, UNKNOWN = Reason.KIND_NOT_NEEDED, Reason.KIND_UNKNOWN
T1, T2 = (10, 600), (100, 3500)  # echo and repetition time, ms


def acquired(
    times: tuple[float | None, ...] = (None, None),
    description: str = "",
    **fields: object,
) -> Acquisition:
    echo, repetition, *inversion = (*times, None)
    return Acquisition(
        description=description,
        echo_ms=echo,
        repetition_ms=repetition,
        inversion_ms=inversion[0],
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("plane", "times", "reader"),
    [
        (SAG, (102, None), SPINAL),
        (SAG, (9.4, None), FORAMINAL),
        (AX, (96, 4000), SUBARTICULAR),
        (AX, (11, 600), NOBODYS),
        (COR, (90, 4000), NOBODYS),
        (None, (100, 4000), UNKNOWN),
        # a short echo is T1 only with a short repetition or a long inversion
        (SAG, (9, 620), FORAMINAL),
        (SAG, (22, 2200, 860), FORAMINAL),
        (SAG, (25, 4000, 160), SPINAL),
        (SAG, (60, 5000, 150), SPINAL),
        (SAG, (15, 2600), NOBODYS),  # density
        (SAG, (15, 2600, 0), NOBODYS),
        (AX, (15, 2600), NOBODYS),
        (SAG, (45, 3000), UNKNOWN),  # between density and T2
        (SAG, (120, 9000, 2500), NOBODYS),  # liquor is dark
        (SAG, (95, 500), UNKNOWN),  # too fast for a T2
        (SAG, (0, 600), UNKNOWN),  # an echo time of zero is none
        (SAG, (None, None), UNKNOWN),
    ],
)
def test_times(plane: str | None, times: tuple[float, ...], reader: Group | Reason) -> None:
    assert verdict(acquired(times), plane).reader is reader


@pytest.mark.parametrize(
    ("plane", "description", "reader"),
    [
        (SAG, "T1", FORAMINAL),
        (SAG, "T2", SPINAL),
        (AX, "T2", SUBARTICULAR),
        (AX, "T1", NOBODYS),
        (SAG, "Sag T2 FSE", SPINAL),
        (SAG, "t1_tse_sag_320", FORAMINAL),
        (SAG, "SagT1", FORAMINAL),
        (SAG, "t2_tirm_sag", SPINAL),
        (SAG, "SAG STIR", SPINAL),
        (SAG, "Sag PD", NOBODYS),
        (SAG, "T2 FLAIR SAG", NOBODYS),
        (SAG, "T1 FLAIR sag", FORAMINAL),
        (SAG, "PD/T2 sag", SPINAL),
        (SAG, "whatever", UNKNOWN),
        (SAG, "T1 and T2", UNKNOWN),
        (SAG, "", UNKNOWN),
    ],
)
def test_a_description_tells_where_there_are_no_times(
    plane: str, description: str, reader: Group | Reason
) -> None:
    assert verdict(acquired(description=description), plane).reader is reader


def test_times_speak_before_the_description_which_people_type() -> None:
    assert verdict(acquired(T2, "Sag T1 copy of protocol"), SAG).reader is SPINAL
    assert verdict(acquired((15, 2000), "sag T1 flair"), SAG).reader is FORAMINAL
    assert verdict(acquired((45, 3000), "SAG STIR"), SAG).reader is SPINAL


@pytest.mark.parametrize(
    "description",
    [
        "LOC", "loc", "LOCS", "Loc1", "localizer", "LOCALIZERS", "localiser 3 plan", "AAScout",
        "AAScout_T-spine", "Scout 2", "3Plane_Loc_SSFSE", "3-PL T2* FGRE S", "3 plane", "Survey",
        "Survey_SAG", "T2_HASTE_PILOT", "Localizador", "Lokalizer", "Repérage", "Übersicht",
        "localisateur", "SURVIEW", "位置決め",
        "ADC", "eADC map", "DWI b1000", "ep2d_diff_tracew", "DTI", "T2 Map", "B0 field map",
        "SUBTRACTION", "MIP", "T2_myelo_3D", "ASSET calibration", "FAT: Sag T2 IDEAL",
        "t2_tse_dixon_sag_F", "t2_tse_dixon_sag_opp", "OutPhase: Sag T2",
        "T2 sag cervical", "t2_tse_sag HWS", "C-Spine T2", "T SPINE SAG T2", "BWS t2 sag",
        "Brain T2", "Sag T2 knee", "T2 SI joints", "t2_tse_sag thoracic",
    ],
)  # fmt: skip
def test_what_is_never_scored(description: str) -> None:
    """With the times of a T2, so that the name alone keeps it out."""
    assert verdict(acquired(T2, description), SAG).reader is NOBODYS


@pytest.mark.parametrize(
    "description",
    [
        "T2 SAG", "Sag T2 FSE", "t2_tse_sag_p2_512", "SAG T2 FRFSE", "T2W_TSE_SAG", "T2 FS SAG",
        "t2_tirm_sag", "LUMBAR T2 SAG", "LWS t2 sag", "T2 SAG L-SPINE", "LS SPINE T2",
        "T2 block", "SAG T2 PROPELLER", "T2 sag TL", "Total spine T2", "T2 SAG WHOLE SPINE",
    ],
)  # fmt: skip
def test_ordinary_names_keep_nothing_out(description: str) -> None:
    assert verdict(acquired(T2, description), SAG).reader is SPINAL


@pytest.mark.parametrize(
    "fields",
    [
        {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")},
        {"image_type": ("DERIVED", "PRIMARY", "ADC")},
        {"image_type": ("DERIVED", "PRIMARY", "PROJECTION IMAGE")},
        {"image_type": ("ORIGINAL", "PRIMARY", "P", "ND")},
        {"image_type": ("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC")},
        {"image_type": ("DERIVED", "PRIMARY", "DIXON", "FAT")},
        {"image_type": ("ORIGINAL", "PRIMARY", "OPP_PHASE")},
        {"b_value": 800.0},
        {"sequences": ("EP", "SE")},
        {"sequence_name": "*EP2D1_64"},
        {"body_part": "CSPINE"},
        {"body_part": "KNEE"},
        {"protocol": "BRAIN ROUTINE"},
        {"study_description": "MRI CERVICAL SPINE"},
    ],
)
def test_headers_that_keep_a_series_out(fields: dict[str, object]) -> None:
    assert verdict(acquired(T2, "T2 SAG", **fields), SAG).reader is NOBODYS


@pytest.mark.parametrize(
    ("times", "description", "fields"),
    [
        ((15, 500), "sag t1", {"sequences": ("GR",)}),
        ((5, 100), "", {"flip_angle": 15.0}),
        ((20, 800), "T2* sag", {}),
        ((12, 500), "t1_fl2d_sag", {}),
        ((12, 500), "", {"image_type": ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE")}),
        (T2, "T2 HASTE sag", {}),
        (T2, "", {"sequence_name": "*H2D1_205"}),
        (T2, "", {"image_type": ("ORIGINAL", "PRIMARY", "IN_PHASE")}),
        (T1, "T1 SAG +C", {}),
        (T1, "t1_tse_sag_KM", {}),
        (T1, "SAG T1 POST GAD", {}),
        (T1, "sag t1", {"contrast_agent": "GADOVIST"}),
        (T1, "T1 FS SAG", {}),
        (T1, "sag t1", {"options": ("FS",)}),
    ],
)
def test_what_a_person_has_to_decide(
    times: tuple[float, float], description: str, fields: dict[str, object]
) -> None:
    told = verdict(acquired(times, description, **fields), SAG)
    assert told.reader is UNKNOWN
    assert set(told.could_be) <= {SPINAL, FORAMINAL} and told.could_be


@pytest.mark.parametrize(
    "description", ["T1 SAG W/O CONTRAST", "T1 pre KM", "T1 nativ", "T1 ohne KM"]
)
def test_no_contrast_agent_is_none(description: str) -> None:
    assert verdict(acquired(T1, description), SAG).reader is FORAMINAL
    for agent in ("NONE", "off", "No contrast", "W/O"):
        none = acquired(T1, "T1", contrast_agent=agent.upper())
        assert verdict(none, SAG).reader is FORAMINAL, agent


def test_what_stands_nearest_to_the_series_names_its_body_part() -> None:
    of_head = {"body_part": "HEAD", "study_description": "MRI BRAIN"}
    assert verdict(acquired(T2, "T2 SAG LUMBAR", **of_head), SAG).reader is SPINAL
    assert verdict(acquired(T2, "T2 SAG", **of_head), SAG).reader is NOBODYS
    assert verdict(acquired(T2, body_part="LSPINE"), SAG).body_told
    assert not verdict(acquired(T2, body_part="SPINE"), SAG).body_told


def test_a_plain_picture_is_better_than_a_suppressed_or_a_computed_one() -> None:
    plain = verdict(acquired(T2, "T2 SAG"), SAG).second_choice
    for other in (
        acquired(T2, "T2 FS SAG"),
        acquired((60, 5000, 150), "STIR"),
        acquired(T2, "T2 SAG +C"),
        acquired(T2, "T2 SAG", image_type=("DERIVED", "SECONDARY", "MPR")),
    ):
        assert verdict(other, SAG).second_choice > plain


@pytest.mark.parametrize("degrees", [0, 25, 50])
def test_axial_slices_may_be_tilted_to_the_disc(degrees: float) -> None:
    tilt = math.radians(degrees)
    assert plane_of((1, 0, 0, 0, math.cos(tilt), math.sin(tilt))) == "axial"


@pytest.mark.parametrize("degrees", [0, 20, 40])
def test_sagittal_slices_may_be_turned_to_a_scoliosis(degrees: float) -> None:
    turn = math.radians(degrees)
    assert plane_of((math.sin(turn), math.cos(turn), 0, 0, 0, -1)) == "sagittal"
