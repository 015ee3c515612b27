"""Telling the kind of a frame from how it was acquired."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.core.reasons import Reason
from rsna_lumbar.runtime.dicom.acquisition import Acquisition
from rsna_lumbar.runtime.dicom.series_kind import LUMBAR, SEVERAL, plane_of, verdict

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


# Plain series of lumbar spines, as scanners of several makers and people in several countries call
# them, separated by bars. One that is refused or put behind another is lost, so none may be.
SAGITTAL_T2 = """
T2|T2 SAG|Sag T2|SAG T2 FSE|Sag T2 FRFSE|Sag T2 FSE-XL|t2_tse_sag|t2_tse_sag_320|t2_tse_sag_p2_384
t2_tse_sag_512_DRB|T2W_TSE_SAG|T2W_TSE sag|sT2W_TSE|sT2_TSE_sag|T2-W SAG|T2_SAG_W|T2 sag W|T2W
SAG T2 PROPELLER|t2_blade_sag|SAG T2 BLADE|SAG T2 JET|SAG T2 MultiVane|SAG T2 CUBE|t2_space_sag_iso
T2 SPACE ISOTROPIC|SAG T2 DRIVE|SAG T2 ASSET|T2 SAG ARC|T2W_TSE SENSE|SAG T2 GRAPPA|SAG T2 CAL 2
SAG T2 AIR RECON DL|AIR RECON DL SAG T2|SAG T2 DL RECON|SAG T2 Deep Resolve|t2_tse_sag_DeepResolve
SAG T2 COMPRESSED SENSE|SAG T2 CS|SAG T2 AiCE|SAG T2 flow comp|SAG T2 FC|SAG T2 FLOWCOMP
SAG T2 NO PHASE WRAP|SAG T2 PHASE H/F|T2 SAG FA 150|SAG T2 FOV 28CM|SAG T2 24 cm
SAG T2 DIFFERENT FOV
SAG T2 POST OP|SAG T2 post-op|T2 sag postop|SAG T2 POST FUSION|SAG T2 POST LAMINECTOMY|SAG T2 PRE
SAG T2 METAL|SAG T2 MARS|SAG T2 WARP|SAG T2 repeat|SAG T2 (rpt)|SAG T2 SUBOPTIMAL|SAG T2 block 1
T2 SAG HEAD FIRST|SAG T2 ARMS UP|SAG T2 leg pain|SAG T2 KNEES BENT|UPRIGHT SAG T2|SAG T2 FLEXION
LWS sag T2|T2 TSE sagittal LWS|L-spine T2 sag|L SPINE SAG T2|LS T2 sag|LSP T2 SAG|L/S SPINE SAG T2
T2 LS SPINE|LS-SPINE SAG T2|SAG T2 L_SPINE|LUMBAR SPINE T2 SAG|Lumbosacral T2 sag|T2 sag L1-S1
SAG T2 T12-S1|SAG T2 T12-L5|SAG T2 TL SPINE|SAG T2 T-L SPINE|SAG T2 thoracolumbar|T2 SAG DORSOLUMBAR
SAG T2 DORSO-LOMBAIRE|SAG T2 L SPINE & SACRUM|SAG T2 L-SPINE SI JOINTS|LUMBAR 3D SPINE T2
3D SPINE T2
T2 SAG LOMBAIRE|T2 sag rachis lombaire|SAG T2 RACHIS|SAG T2 COLUMNA LUMBAR|T2 SAG LOMBARE
sag T2 coluna lombar|SAG T2 COLONNA|T2 sag kręgosłup lędźwiowy|T2 sag odc. L-S|T2_sag bederní páteř
Lomber T2 sag|\N{CYRILLIC CAPITAL LETTER TE}2 сагиттальная|Поясничный отдел T2 sag|腰椎 T2 SAG
腰椎矢状T2|T2 矢状位|腰骶椎 T2
SAG T2 NON CONTRAST|SAG T2 W/O|SAG T2 WITHOUT|T2 sag nativ|腰椎T2 平扫|SAG T2 LOWER BACK
SAG T2 L1-SACRUM|SAG T2 NV HEAD COIL|SAG T2 WITH LOC LINES
"""
SAGITTAL_T1 = """
T1|T1 SAG|SAG T1 FSE|SAG T1 SE|t1_tse_sag|t1_tse_sag_320_p2|T1W_TSE SAG|T1W_SE SAG|T1-W SAG|SAG T1-W
T1 W SAG|T1W|SAG T1 FLAIR|T1 FLAIR SAG|SAG T1 LUMBAR|T1 sag LWS|SAG T1 RACHIS LOMBAIRE|SAG T1 ASSET
SAG T1 AIR RECON DL|SAG T1 flow comp|SAG T1 FC|SAG T1 FOV 28CM|SAG T1 24 cm|T1 SAG 25CM FOV
SAG T1 PRE|t1_tse_sag_pre|SAG T1 PRE CONTRAST|SAG T1 PRECONTRAST|T1 SAG PRE GAD|T1 sag pre-KM
SAG T1 PRE-OP|SAG T1 W/O|SAG T1 WO CONTRAST|SAG T1 W/O CON|SAG T1 NO CONTRAST|SAG T1 NON-CONTRAST
SAG T1 NONCONTRAST|SAG T1 NON GAD|SAG T1 NO GAD|SAG T1 NON ENHANCED|T1 SAG UNENHANCED
SAG T1 BEFORE CONTRAST|T1 SAG (-) GAD|T1 SAG sin contraste|SAG T1 SIN CTE|T1 SAG S/C
T1 SAG SANS INJECTION|SAG T1 SANS GADO|T1 sag avant injection|T1 sag senza mdc|T1 SAG SEM CONTRASTE
T1 sag nativ|SAG T1 NATIVE|T1 sag KM-frei|T1 sag ohne KM|T1 sag vor KM|T1 sag bez kontrastu
T1 без контраста|T1 造影前|T1 非造影|T1 平扫|SAG T1 POST OP|SAG T1 POSTOP|SAG T1 POST SURGERY
SAG T1 POST FUSION|SAG T1 POST DISCECTOMY|T1 SAG INJURY|SAG T1 CONTROL|SAG T1 NO FS
T1 SAG NON FAT SAT
SAG T1 MARS|SAG T1 BLADE|SAG T1 W/OUT CONTRAST|SAG T1 -GD|SAG T1 C-|T1 sag s/gd|T1 sag przed KM
T1 kontrastsiz|T1 SAG POST L4-5 FUSION
"""
AXIAL_T2 = """
T2|AX T2|AXIAL T2|Ax T2 FSE|t2_tse_tra|t2_tse_tra_msma|T2W_TSE_TRA|T2W_TSE AX|AX T2 ASSET
AX T2 L1-S1
AX T2 L3-S1|AX T2 L4-5|L4/L5 AX T2|t2_tse_tra_L5/S1|AX T2 T12-L3|AX T2 T12-L2|AX T2 D12-L1|AX T2 OBL
AX T2 STACK|AX T2 DISC|AX T2 LOC DISCS|AX T2 3 DISCS|AX T2 3 PL|AX T2 3 PLANES OF DISCS|Ax T2 3PLAN
AX T2 MSMA|AX T2 POST OP|T2 tra LWS|TRA T2 LWK|T2 AX LOMBAIRE|AX T2 LUMB SACRUM|腰椎 T2 轴位
AX T2 FC
AX T2 AIR RECON DL|T2 tra L3-4|AX T2 FOV 18CM
"""


def names(text: str) -> list[str]:
    return [name for line in text.strip().splitlines() for name in line.split("|")]


ORDINARY = [
    *[(SAG, T2, name, SPINAL) for name in names(SAGITTAL_T2)],
    *[(SAG, T1, name, FORAMINAL) for name in names(SAGITTAL_T1)],
    *[(AX, T2, name, SUBARTICULAR) for name in names(AXIAL_T2)],
]


@pytest.mark.parametrize(("plane", "times", "description", "reader"), ORDINARY)
def test_ordinary_series_are_read_before_all_others(
    plane: str, times: tuple[float, float], description: str, reader: Group
) -> None:
    told = verdict(acquired(times, description), plane)
    assert (told.reader, told.second_choice) == (reader, 0), told.why


@pytest.mark.parametrize(
    "description",
    [
        "SAG STIR", "t2_tirm_sag", "SAG T2 FS", "SAG T2 FAT SAT", "SAG T2 FATSAT", "SAG T2 FAT SUP",
        "T2 SAG SAT GRASA", "SAG T2 SPAIR", "t2_tse_dixon_sag_W", "WATER: Sag T2 IDEAL",
        "W: T2 SAG",
        "T2 mDIXON TSE W", "SAG T2 MPR", "SAG T2 RECON", "t2_tse_sag_comp", "SAG T2 POST GAD",
    ],
)  # fmt: skip
def test_suppressed_and_computed_ones_are_read_where_nothing_plain_is(description: str) -> None:
    told = verdict(acquired(T2, description), SAG)
    assert told.reader is SPINAL
    assert told.second_choice > 0


# What shows no lumbar spine, or none that a detector has learned: with the times of a T2.
OTHER_PARTS = """
C-SPINE T2 SAG|CSPINE T2|SAG T2 C-SP|T2 sag HWS|SAG T2 CERV|T2 SAG COL CERVICAL|T2 SAG C1-T2
SAG T2 C2-T1|SAG T2 C1-C7|颈椎 T2|頚椎 T2|頸椎T2|Servikal T2|Шейный отдел T2|ШОП T2 sag|T2 szyjny
T2 SAG THORACIC|T2 SAG T-SPINE|SAG T2 TH SPINE|SAG T2 D-SPINE|T2 sag BWS|SAG T2 DORSAL|SAG T2 DORS
SAG T2 THOR|T2 SAG TORACICA|SAG T2 torácica|T2 SAG TORACICO|Torakal T2|TORACAL T2|T2 SAG T1-T12
T2 sag Th1-Th12|SAG T2 D1-D12|胸椎 T2|Грудной отдел T2|ГОП T2|T2 PIERSIOWY|T2 BRUSTWIRBELSÄULE
SAG T2 SACRUM|T2 SAG SIJ|T2 SI JOINTS|SAG T2 KNEE|T2 SAG GENOU|T2 SAG GINOCCHIO|T2 SAG KOLANO|膝 T2
SAG T2 LS SHOULDER|T2 SAG LS KNEE|T2 SAG ENCEFALO|T2 SAG BRAIN|脳 T2|頭部 T2|头颅 T2|T2 SAG MR GŁOWY
T2 SAG BACINO|T2 SAG BASSIN|盆腔 T2|SAG T2 PELVIS|SAG T2 UTERO|SAG T2 BRACHIAL PLEXUS
SAG T2 PLEXO BRAQUIAL|T2 SAG PROSTATE|Коленный сустав T2|Головной мозг T2|肩 T2|骨盤 T2
T2 Kniegelenk|T2 Schultergelenk|T2 Hals|T2 Hypophyse|T2 muñeca|T2 cheville|T2 pelve|T2 boyun|子宮 T2
"""
LOCALIZERS = """
LOC|LOCS|LOC_SAG|sagLOC|COR LOC|3 plane|3-plane|3Plane_Loc|3-PL T2* FGRE S|3 PLANE T2|TRI-PLANAR
TRIPLANAR|localiser 3 plan|Plan scan|PlanScan|PLANNING|Planung|SmartSpine|SmartBrain|Scano|SCANOGRAM
COUNT LOC|COUNTING SAG|SAG COUNT|REPERE|Repérage|Centratura|centraje|centratore|Пилот|Локализатор
定位像|位置決め|Localizador|SAG T2 LOC|orientation
Plan|SURV|スカウト
"""
MAPS = """
DWI|dwi b0|b0|b1000|ADC|Average DC|isotropic|TRACE|resolve_3scan_trace_tra|RESOLVE|ep2d_diff|epi sag
FA|ColFA|FA map|Fractional Aniso.|T2 map|T2 mapping|T1rho|MD map|R2*|R2Star|FatFrac
fat fraction|PDFF
DCE|ktrans|B0 map|SUB|SUBTRACTED|MIP|T2 myelogram|CSF flow|PC flow|Flow quant|VENC 10|CAL|ASSET cal
ASSET|Calibration|SENSE_REF|FAT|FAT: Sag T2|Sag T2 FAT|F: T2|t2_tse_dixon_sag_F|mDIXON T2 (F)|OP: T2
T2 SAG DIXON FAT|OutPhase: Sag T2|t2_tse_dixon_sag_opp|Phase contrast|Screen Save
dADC|MinIP|OP|Tractography|water fraction|MRV
"""
NOT_READ = names(OTHER_PARTS) + names(LOCALIZERS) + names(MAPS)


@pytest.mark.parametrize("description", NOT_READ)
def test_series_that_no_detector_has_learned_are_nobodys(description: str) -> None:
    assert verdict(acquired(T2, description), SAG).reader is NOBODYS


def test_the_lists_of_names_are_long_and_name_nothing_twice() -> None:
    assert len(ORDINARY) >= 120 and len(NOT_READ) >= 120
    assert len(set(ORDINARY)) == len(ORDINARY) and len(set(NOT_READ)) == len(NOT_READ)


@pytest.mark.parametrize(
    "description",
    names(
        """
SAG T1 +C|SAG T1 C+|T1+GD|T1 SAG GAD|SAG T1 POST|SAG T1 POST CONTRAST|SAG T1 POSTGAD
T1 SAG POST OP GAD
T1 sag KM|T1 SAG nach KM|SAG T1 GADO|T1 INJ|T1 SAG APRES INJ|T1 C/C|T1 SAG CTE
T1 CON CONTRASTE|T1 mdc
SAG T1 W|SAG T1 W/|SAG T1 WITH|SAG T1 W CONTRAST|SAG T1 W/WO|SAG T1 W AND WO CONTRAST
SAG T1 ENHANCED
SAG T1 W/C|SAG T1 W/CON|T1 +\u041a\u0423|SAG T1 ENH
SAG T1 CE|SAG T1 CM|SAG T1 CONTR|T1 SAG PROHANCE|T1 MAGNEVIST|T1 GADAVIST|造影 T1|T1 增强|T1 kontras
SAG T1 PRE/POST GAD|SAG T1 PRE AND POST|SAG T1 NO FS POST|T1 SAG POST NON FAT SAT|T1 контраст
SAG T1 WITHOUT AND WITH CONTRAST|SAG T1 FS|T1 SPIR|IP: T1|inPhase: SAG T1|t1_tse_dixon_sag_W
"""
    ),
)
def test_a_t1_after_contrast_or_without_fat_is_asked_about(description: str) -> None:
    told = verdict(acquired(T1, description), SAG)
    assert told.reader is UNKNOWN
    assert FORAMINAL in told.could_be


def test_fat_alone_is_nobodys_in_a_t1_too() -> None:
    assert verdict(acquired(T1, "T1 SAG DIXON FAT"), SAG).reader is NOBODYS


@pytest.mark.parametrize(
    "description", ["T1 SAG PRE", "T1 SAG without", "T1 W/O GAD", "T1 NATIV", "T1 -C"]
)
def test_a_name_that_denies_the_agent_counts_before_the_header(description: str) -> None:
    assert verdict(acquired(T1, description, contrast_agent="GADOVIST"), SAG).reader is FORAMINAL
    for silent in ("T1 SAG", "T1 SAG NO FS", "T1 SAG PRE-OP"):
        assert verdict(acquired(T1, silent, contrast_agent="GADOVIST"), SAG).reader is UNKNOWN


@pytest.mark.parametrize(
    ("ordered", "body_part", "body"),
    [
        ("MRI LUMBAR SPINE AND SACRUM", "", LUMBAR),
        ("LUMBAR SPINE + SI JOINTS", "LSPINE", LUMBAR),
        ("LS SPINE WITH WHOLE SPINE SCREENING", "LSPINE", LUMBAR),
        ("LS SPINE WITH WHOLE SPINE SCREENING", "", SEVERAL),
        ("COLONNE CERVICO-DORSO-LOMBAIRE", "", SEVERAL),
        ("COLONNE CERVICO-DORSO-LOMBAIRE", "SPINE", SEVERAL),
        ("COLONNE CERVICO-DORSO-LOMBAIRE", "LSPINE", LUMBAR),
        ("MRI CERVICAL AND LUMBAR SPINE", "CSPINE", None),
        ("MRI C-T-L SPINE", "", SEVERAL),
        ("RM COLUMNA DORSO-LUMBAR", "", LUMBAR),
        ("MRI TL SPINE", "", LUMBAR),
        ("MR LUMBAR SPINE & PELVIS", "LSPINE", LUMBAR),
        ("MR SPINE SERVICE", "", ""),
        ("SACROILIAC", "", None),
        ("MRI D-SPINE", "SPINE", None),
        ("RM COLUMNA TORACICA", "SPINE", None),
        ("IRM BASSIN", "", None),
        ("膝関節", "", None),
        ("MRI LS", "", LUMBAR),
        ("LS SHOULDER", "", None),
    ],
)
def test_of_several_parts_that_are_ordered_the_body_part_tells(
    ordered: str, body_part: str, body: str | None
) -> None:
    """None: another part of the body, so that nobody reads it."""
    how = acquired(T2, "T2 SAG", body_part=body_part)
    for field in ("study_description", "requested", "performed"):
        told = verdict(replace(how, **{field: ordered}), SAG)  # type: ignore[arg-type]
        assert told.reader is (NOBODYS if body is None else SPINAL)
        assert told.body == (body or "")


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
