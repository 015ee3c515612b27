"""The series kind of a frame, determined from its header if no table gives it.

The rules are ``RULES``, applied in this order; the first one that matches decides. A refused frame
is either not scored (``KIND_NOT_NEEDED``) or of unknown kind (``KIND_UNKNOWN``): a person may
know better, and can say so with ``--series``. Frames that pass are classified by their plane, and
by their weighting according to their times, in milliseconds:

                  echo      repetition  inversion  read as
    T1 spin echo  8-30      < 1500                 T1
    T1 FLAIR      8-30      > 1500      400-1500   T1
    T2            60-       > 900                  T2
    STIR          20-       > 1500      80-400     T2
    density       8-60      > 1500                 not scored
    FLAIR                               > 1500     not scored: cerebrospinal fluid is dark

Without times, the weighting named by an enhanced file, or the description, decides.

Sources. Times: the lumbar protocols of the ACR-ASNR-SCBT-MR practice parameter for MR of the adult
spine, and 1.5 T and 3 T protocols published by the vendors (T1 8-20 / 400-900, T2 80-130 /
2500-6000, STIR 20-80 / 2500-6000 / 130-250), with a margin. Terms: PS3.3 C.7.6.16.2, C.8.3.1
(ScanningSequence), C.8.13.3 (FrameType), PS3.16 CID 4 (body parts). Names of sequences: those that
Siemens, GE, Philips, Canon, Fujifilm and United Imaging use. Words for the body, localizers and
contrast: English, German, French, Spanish, Portuguese, Italian, Polish, Turkish, Russian, Chinese
and Japanese, as people type them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.core.reasons import Reason
from rsna_lumbar.runtime.dicom.acquisition import Acquisition
from rsna_lumbar.runtime.dicom.header import Vector

LONGEST_T1_ECHO_MS = 30.0
SHORTEST_T2_ECHO_MS = 60.0
LONGEST_T1_REPETITION_MS = 1500.0  # without inversion
SHORTEST_T2_REPETITION_MS = 900.0
STIR_INVERSION_MS = (80.0, 400.0)
LONGEST_T1_INVERSION_MS = 1500.0
SMALLEST_SPIN_ECHO_FLIP = 60.0  # degrees
# Axial stacks are tilted to the disc, L5/S1 by up to about 50 degrees: cos 60 = 0.5.
AXIAL_COSINE = 0.5

NO_ORIENTATION, SAYS_NOTHING = "no orientation", "neither times nor a description that tell"
NOBODYS, UNKNOWN = Reason.KIND_NOT_NEEDED, Reason.KIND_UNKNOWN


@dataclass(frozen=True, slots=True)
class Verdict:
    """The group that reads a frame, or the reason why none does, without quoting the header."""

    reader: Group | Reason
    why: str
    could_be: tuple[Group, ...] = ()  # possible groups, if unknown
    body: str = ""  # LUMBAR, SEVERAL parts of the spine, or empty if not stated
    second_choice: int = 0  # number of reasons to prefer another series of the same kind

    @property
    def sort(self) -> tuple[object, ...]:
        """What the frames of one part have in common: everything except the numbers."""
        why = "" if isinstance(self.reader, Group) else re.sub(r"[\d.]+", "", self.why)
        return self.reader, why, self.body, self.second_choice

    @property
    def body_told(self) -> bool:
        """Whether the header says that it is a lumbar spine."""
        return self.body == LUMBAR

    @property
    def tells(self) -> bool:
        """Whether the header says anything about its kind."""
        return self.why not in (NO_ORIENTATION, SAYS_NOTHING)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule that refuses frames, regardless of their plane and times."""

    why: str
    applies: Callable[[Acquisition], object]
    reason: Reason = NOBODYS


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Z0-9])(?:{pattern})(?![A-Z0-9])")


# Signs with a meaning in context, and the words for them; all other signs become blanks.
SIGNS = (
    (re.compile(r"\(-\)|(?<=[ _])-(?=GD|GAD|KM)|(?:(?<=[ _])-C|(?<=[ _])C-)(?= *$)"), " WITHOUT "),
    (re.compile(r"(?<![A-Z])(T[12])[-_]W(?![A-Z])"), r"\1W"),  # weighted, not with contrast
    (re.compile("\N{CYRILLIC CAPITAL LETTER TE}(?=[12])"), "T"),
    (re.compile(r"Ł"), "L"),
    # the images of a Dixon series, in the notation of GE and Philips
    (re.compile(r"^ *F(?:AT)? *:"), "FAT ONLY "),
    (re.compile(r"^ *W *:"), "WATER "),
    (re.compile(r"^ *OP *:|: *OP *$"), " OUT PHASE "),
    (re.compile(r"^ *IP *:|: *IP *$"), " IN PHASE "),
    # T1-T12 are vertebrae, T1/T2 are weightings; in T2 T12-L3, the T2 is a weighting
    (re.compile(r"(?<![A-Z])(?:TH?|D)[1-8] *(?:[-\u2013]|TO) *(?:TH?|D)(?:[3-9]|1[0-2])(?![0-9])"
                r"(?! *[-\u2013] *[LS])"), " THORACIC "),
    (re.compile(r"(?<![A-Z])C[1-7] *(?:[-\u2013]|TO) *(?:TH?|D)[0-9]"), " CERVICAL "),
)  # fmt: skip

LOCALIZER = re.compile(
    r"LOCALI[SZ]|LOKALI|LOCALISAT|SCOUT|SURVEY|SURVIEW|PILOT|TOPOGRAM|REPERAGE|UBERSICHT|UEBERSICHT"
    r"|CENTRATOR|CENTRATUR|CENTRAJE|PLAN ?SCAN|PLANNING|PLANUNG|SMART ?(?:SPINE|BRAIN)|SCANOGRA"
    r"|位置決め|定位|スカウト|ЛОКАЛ|ПИЛОТ"
    r"|(?<![A-Z])(?:SAG|COR|AX|TRA|COUNT)?LOC(?:S|ALL)?(?![A-Z])(?! DIS[CK]| LINE)"
    r"|(?<![A-Z])LOK(?![A-Z])"
    r"|(?<![A-Z])(?:SCANO|SURV|COUNT(?:ING)?|REPERES?|TRI ?PLANAR)(?![A-Z])"
    r"|^(?:ORIENTATION|PLAN[EO]?S?|TOPO|FINDER)$"
)
THREE_PLANES = re.compile(r"(?<![A-Z0-9])(?:3|TRI|THREE) ?(?:PLANE|PLANO|PLAN|PL)S?(?![A-Z])")
# "AX T2 3 PL": a series of three discs; a localizer in three planes names no single plane.
IN_ONE_PLANE = re.compile(r"^(?=.*T ?[12](?!\d))(?=.*(?<![A-Z])(?:SAG|AX|TRA|TRANSV|COR))")
SERVICE = _words(
    r"(?:ASSET|SENSE|ACCEL|ARC|COIL) ?CAL\w*|CALIB\w*|SENSE ?REF\w*|REF ?SCAN|COIL ?SENS\w*"
    r"|PRE ?SCAN\w*|SHIM\w*|SCREEN ?(?:SAVE|SHOT|CAPTURE)S?|KEY ?IMAGES?"
)
DIFFUSION = _words(
    r"[ED]?ADC\w*|TRACEW?|[SE]?DWI|DW|IVIM|TRACTO\w*|MDDW|DWIBS|DTI|DIFF(?!ER|IC)\w*"
    r"|B ?(?:50|[1-9]\d{2,3})|TENSOR|FA ?MAP|EXP ?ADC|AVERAGE ?DC|COL(?:OU?R)? ?FA|FRACTIONAL\w*"
)
# Unambiguous only in a name without T1 or T2, which may have FA 150, CAL 2 or DEEP RESOLVE.
UNWEIGHTED = r"^(?!.*T ?[12](?!\d))(?!.*STIR)"
SERVICE_ALONE = re.compile(UNWEIGHTED + r".*(?<![A-Z])(?:CAL|ASSET|REF)(?![A-Z])")
DIFFUSION_ALONE = re.compile(
    UNWEIGHTED + r"(?:.*(?<!DEEP )(?<![A-Z])(?:RESOLVE|B ?0)(?![A-Z0-9])|(?:FA|ISOTROPIC)$)"
)
ECHO_PLANAR = _words(r"EPI|EP2D\w*")
MAP = _words(
    r"(?:T1|T2|R1|R2|PD|B0|B1|FAT|PHASE|PARAMETRIC|FF|MD|QUANT)\*? ?(?:STAR ?)?MAP\w*|MAPIT"
    r"|FIELD ?MAP\w*|R2 ?\*|R2 ?STAR|T1 ?RHO|(?:FAT|WATER) ?FRAC\w*|PDFF|^FF$|SYMAPS?|DCE|^DSC"
    r"|KEP|IAUC|PEI|K ?TRANS|TTP|SUBTR\w*|SUBS?(?! ?(?:OPT|ACUTE))|(?:MIN|M)IP|PROJ\w*"
    r"|MYELO(?![PM])\w*|PERF(?!ORM)\w*|BOLD|FMRI|QSM|SWI|SWAN|TOF\w*|MRA|ANGIO\w*|MRCP|MR[SVE]"
    r"|ELASTO\w*|TRICKS|TWIST|UTE|CEST|SPECTRO\w*|CINE|VENC"
    r"|Q ?FLOW|PHASE CONTRAST\w*|(?:CSF|PC|QUANT\w*) ?FLOW|FLOW ?(?:CSF|PC|QUANT\w*|STUDY)|^FLOW$"
)
DERIVED_TYPES = _names(
    "ADC TRACEW TRACE DIFFUSION DIFFUSION_ANISO FA LOCALIZER MOSAIC EPI FIELD_MAP B0 B1 PHASE "
    "IMAGINARY REAL SUBTRACTION SUBTRACT MIP MINIP R2_STAR R2 T2_STAR_MAP T1MAP T2MAP T1_MAP "
    "T2_MAP R1_MAP R2_MAP PERFUSION VELOCITY FMRI"
)
SOLE_TYPES = _names("P I R")  # in the third place: phase, imaginary, real
# Beside a word for suppression, FAT names the tissue that is suppressed.
FAT_ALONE = re.compile(
    r"(?<![A-Z])FAT ?(?:ONLY|IMAGE|FRACTION)(?![A-Z])|^FAT (?!SAT|SUP|SEP|S )"
    r"|(?:DIXON|IDEAL).* F(?:AT)?$|DIXON.* FAT (?!SAT|SUP|SEP|S )"
    r"|(?<![A-Z])(?<!NO )(?<!NON )(?<!WO )(?<!W O )(?<!WITHOUT )(?<!SAT )(?<!SUP )(?<!SUPP )FAT$"
)
OPPOSED = _words(r"^OP$|OPP\w*|OUT ?OF ?PHASE|OUT ?PHASE|OOP")
IN_PHASE = _words(r"IN ?PHASE|INP|IP|\w*DIXON.* IN$")
GRADIENT_ECHO = _words(
    r"GRE|GRADIENT\w*|FLASH\w*|VIBE|LAVA\w*|MP ?RAGE|F?SPGR|BRAVO|T?FFE|BFFE|BTFE|MFFE|TFE|MEDIC\w*"
    r"|MERGE|CISS|FIESTA\w*|TRUFI\w*|TRUE ?FISP|FISP|DESS|COSMIC|HEMO\w*|T2 ?\*|T2 ?STAR|PSIF"
    r"|FGRE\w*|FL[23]D\w*|TFL\w*|\*?ME2D\w*|FE"
)
GRADIENT_NAMES = re.compile(r"^\*?(?:Q?FL\d?D?|TFL|TFI|FI\d|CI\d|DE\d|ME\d|EFGRE|FGRE|FSPGR|FE_)")
ECHO_PLANAR_NAMES = re.compile(r"^\*?(?:EP\d|EP_|EPI)")
SINGLE_SHOT = _words(r"HASTE\w*|SS ?[FT]SE\w*|SSH\w*|SINGLE ?SHOT|FASE\w*|UFSE")
SINGLE_SHOT_NAMES = re.compile(r"^\*?(?:H\d?D|HASTE)")
# If a word is both stated and negated, as in "PRE AND POST" or "POST, NO FS", the rest counts.
NEGATED = r"(?:W(?:ITH)? ?O(?:UT)?|NON?|NONE|NOT|SIN|SANS|OHNE|SENZA|SEM|BEZ|БЕЗ)"
NOT_SUPPRESSED = _words(NEGATED + r" ?(?:FS|FAT ?SAT\w*|FAT ?SUP\w*|FSAT|SAT|SPIR|SPAIR)")
FAT_SUPPRESSED = _words(
    r"FS|FAT ?SAT\w*|FAT ?SUP\w*|FATSEP|SPIR|SPAIR|CHESS|WE|WATS?|WATER|STIR|TIRM|M?DIXON ?W|SFS"
    r"|FSAT|(?:SAT|SUPP?) (?:FAT|GRASA)|M?(?:DIXON|IDEAL) .* W$"
)
# 28 CM is a length, not a contrast medium.
AGENT = (
    r"(?:\+ ?C|C ?\+|GD|GAD\w*|KM|CE|MDC|CTE|INJ(?!UR)\w*|[CK]ONTR|[CK]ONTRAS\w*"
    r"|КОНТР\w*|(?<!\d)(?<!(?<!T)\d )CM"  # noqa: RUF001
    r"|ENH(?:ANCE\w*)?|DOTAREM|PROHANCE|MAGNEVIST|MULTIHANCE|CLARISCAN|OMNISCAN)"
)
SURGERY = (
    r"(?:OP|SURG|FUS|LAM|DIS[CK]|TRAUM|SPOND|DECOMP|INSTR|IMPL|FIX|REDUC|PROC|[PT]LIF|MICRO|CIR"
    r"|Q[UX])"
)
WITH_AND_WITHOUT = _words(r"W(?:ITH)? (?:AND )?W(?:ITH)? ?O(?:UT)?")
WITH_CONTRAST = re.compile(
    r"\+ ?(?:C|GD|GAD\w*|KM|K|CM|MDC|CONTRAST\w*)(?![A-Z])|(?<![A-Z])C ?\+"
    rf"|(?<![A-Z])(?:POST ?)?{AGENT}(?![A-Z])"
    rf"|(?<![A-Z])POST(?! ?(?:[LS]\d[LS\d ]*)?{SURGERY})(?![A-Z])|(?<![A-Z])WITH$"
    r"|^(?!.*(?:DIXON|IDEAL)).*T ?1(?!\d).* W$|(?<![A-Z])(?:C C$|(?<!\d)W ?\+|W C$|W ?CON(?![A-Z]))"
    r"|[+С] ?КУ(?!\w)"  # noqa: RUF001
    r"|造影|增[强強]|[强強]化"
)
WITHOUT_CONTRAST = re.compile(
    r"(?<![A-Z])(?:"
    rf"(?:{NEGATED}|S|VOR|BEFORE|AVANT|ANTES|PRIMA|PRZED|ДО)(?: DE| DI| D)? ?{AGENT}(?![A-Z])"
    rf"|PRE(?! ?(?:OP|SAT|SCAN))(?: ?{AGENT})?(?![A-Z])|NAT(?:IV\w*)?(?![A-Z])|UNENHANCED"
    r"|KM ?FREI|KONTRASTSIZ|(?:W(?:ITH)? ?O(?:UT)?|SIN|SANS|OHNE|SENZA|SEM|S C)$"
    r")|(?:造影|增[强強])前|非造影|造影 ?なし|未增[强強]|平扫|[单単]純|单纯"
)
# Values of ContrastBolusAgent for no agent; Hitachi writes "off".
NO_AGENT = re.compile(rf"(?:{NEGATED}|N|NIL|OFF|FALSE|0|KEIN\w*|NATIV|UNENHANCED)(?![A-Z])")
REFORMATTED = _words(
    r"MPR|REFORMAT\w*|(?<!AIR )(?<!DL )RECON(?!DL)\w*(?! DL)|CPR|CURVED|COMPOSED"
    r"|(?<!FLOW )COMP|STITCH\w*"
)

LUMBAR, OTHER, SEVERAL = "lumbar", "other", "several"
# Words that contain a body part but do not name the part that is shown.
POSITION = re.compile(
    r"HEAD ?FIRST|HEAD OF BED|ARMS? (?:UP|DOWN)|(?:KNEES?|LEGS?) (?:UP|DOWN|BEN[DT]|FLEXED|PAIN)"
    r"|BEN[DT] (?:KNEES?|LEGS?)|(?:CHEST|HEART|HEAD) HOSPITAL"
    r"|(?:HEAD|NECK|KNEE|BODY|NV|CTL|(?:[CT] )?SPINE) COIL"
)
WHOLE_SPINE = re.compile(
    r"(?:WHOLE|TOTAL|ENTIRE|FULL|PAN|COMPLETE|GANZE) ?(?:SPINE|WIRBEL)|RACHIS ENTIER|全脊"
    r"|COLONNE ENTIERE|COLUMNA (?:COMPLETA|TOTAL)|RACHIDE IN TOTO|WIRBELSAULE KOMPLETT"
    r"|(?<![A-Z])(?:CTL|C T L|GWS)(?![A-Z])"
)
LUMBAR_WORDS = re.compile(  # including the neighbouring regions: thoracolumbar, lumbosacral
    r"LUMB|LOMB|LENDEN|LEDZWI|BEDERN|ПОЯСН|腰|(?<!\w)(?:ПОП|ПКОП)(?!\w)"
    r"|(?<![A-Z])(?:(?:L|L ?S|T ?L|D ?L) ?SPINE|L ?WS|LWK|LOW(?:ER)? BACK|LBP)(?![A-Z0-9])"
    r"|(?<![A-Z])L[1-4] ?(?:TO )?(?:S1|L5|SACRUM)(?![A-Z0-9])"
)
LOOSELY_LUMBAR = _words(r"L ?S|L ?SP|LSS|TL|BEL")  # if nothing else is named
SACRAL = re.compile(  # part of many lumbar protocols
    r"SACR(?:UM|AL|O)|ILIO ?SA[CK]|COCCY|KREUZBEIN|КРЕСТЦ|骶|仙[骨腸]"
    r"|(?<![A-Z])(?:SI ?JOINTS?|SIJS?|ISG)(?![A-Z0-9])"
)
OTHER_SPINE = re.compile(
    r"CERV|ZERVI|SERVIK|HALS ?W|BRUST ?W|THORA[CK][AI]|TORA[CK][AI]|DORSAL|SZYJN|PIERSIOW"
    r"|ШЕИН|ГРУДН|(?<!\w)[ШГ]ОП(?!\w)|[颈頸頚胸]"  # ШЕЙН without its accent
    r"|(?<![A-Z0-9])(?<!(?<!T)[0-9] )D ?SPINE(?![A-Z])"  # but not 3D SPINE
    r"|(?<![A-Z])(?:(?:C|T|TH) ?SPINE|[HB] ?WS|[CT] ?SP|[HB]WK|C[12] ?C[2-7]|THOR|DORS)(?![A-Z0-9])"
)
OTHER_BODY = re.compile(
    r"(?<![A-Z])(?:BRAIN|HEAD|SKULL|KOPF|SCHA?E?DEL|CRAN[EI]\w*|CEREBR\w*|HIRN\w*|EN[CZ]E[PF]H?\w*"
    r"|KNEES?|KNIE\w*|GENOU|RODILLA|JOELHO|GINOCCHI\w*|KOLAN\w*|SHOULDERS?|SCHULTER\w*|EPAULE"
    r"|HOMBRO|OMBRO|SPALLA|ELBOW|WRIST|HANDS?|ANKLE|CHEVILLE|TORNOZELO|FOOT|HIPS?|HUFTE|HANCHE"
    r"|CADERA|QUADRIL|PELVI\w*|BECKEN|BACINO|BASSIN|PROSTAT\w*|UTER(?:US|INE|O)|ENDOMETRI\w*"
    r"|VAGINA\w*|PERINE\w*|ANAL|RECT(?:UM|AL)|BLADDER|LIVER|LEBER|HEPAT\w*|ABDOM\w*|KIDNEYS?|RENAL"
    r"|PANCREA\w*|BREASTS?|MAMMA\w*|HEART|CARDIAC?|CORONAR\w*|AORT\w*|CHEST|THORAX|LUNGS?|ORBITS?"
    r"|PITUITARY|SELLA|NECK|FACE|SINUS(?:ES)?|NASOPHAR\w*|LARYNX|BRACHIAL\w*|BRAQUIAL\w*"
    r"|PLEX(?:O|US)|GLOW[AY]|THIGH|FEMUR|TIBIA|CALF|LEGS?|ARMS?|EXTREMI\w*|PHANTOM\w*|TESTIS"
    r"|SCROT\w*|FETAL|FETUS|PLACENTA|QA|ACR|TMJ|IAC|HALS|BOYUN|NUQUE|HERZ|COEUR|NIEREN?|FOIE|FUSS"
    r"|PIED|SPRUNGGEL\w*|HANDGEL\w*|ELL(?:EN)?BOGEN\w*|HYPOPHYS\w*|CABEZA|KAFA|BEYIN|HERSENEN"
    r"|MUNECA|POLSO|PUNHO|POIGNET|COUDE|CUISSE|TOBILLO|CAVIGLIA|ANCA|PELVE|BEKKEN|SCHOUDER|OMUZ"
    r"|DIZ|FINGERS?|TOES?|HEEL|CALVES|STERNUM|CLAVIC\w*|JAW|SPLEEN|BOWEL|PENIS|VULVA|HAMSTRINGS?"
    r")(?![A-Z])|КОЛЕН|ГОЛОВН|ПЛЕЧ|ТАЗОБЕДР|МАЛОГО"
    r"|膝|[脳脑]|[頭头](?![側尾先])|[颅顱]|肩|子宮|子宫|[足手]関節|髋|踝|骨?盆腔|骨[盤盆]|股関節|前立腺|前列腺|腹部|肝"
    r"|乳[房腺]"
)


@lru_cache(maxsize=4096)  # the frames of a stack share an orientation
def plane_of(orientation: Vector) -> str:
    """``sagittal``, ``axial`` or ``coronal`` from the direction cosines of rows and columns."""
    normal = np.abs(np.cross(orientation[:3], orientation[3:]))
    if normal[0] >= max(normal[1], normal[2]):
        return "sagittal"
    return "axial" if normal[2] >= AXIAL_COSINE else "coronal"


@lru_cache(maxsize=4096)
def verdict(acquisition: Acquisition, plane: str | None) -> Verdict:
    """The verdict on a frame by its acquisition and plane alone, without the rest of its study.

    ``plane`` is from :func:`plane_of`; None without an orientation.
    """
    body = _body_part(acquisition)
    if body == OTHER:
        return Verdict(NOBODYS, "another part of the body")
    for rule in RULES:
        if rule.applies(acquisition):
            could_be = _could_be(plane) if rule.reason is UNKNOWN else ()
            return Verdict(UNKNOWN if could_be else NOBODYS, rule.why, could_be, body)
    if plane is None:
        return Verdict(UNKNOWN, NO_ORIENTATION, _could_be(None), body)
    if plane == "coronal":
        return Verdict(NOBODYS, "coronal")
    return _by_weighting(acquisition, plane, body)


def _by_weighting(acquisition: Acquisition, plane: str, body: str) -> Verdict:
    weighting, why = _weighting(acquisition)
    why = f"{plane}, {why}"
    if weighting == "other":
        return Verdict(NOBODYS, why)
    if not weighting:
        why = SAYS_NOTHING if why.endswith(SAYS_NOTHING) else why
        return Verdict(UNKNOWN, why, _could_be(plane), body)
    if weighting == "T1" and plane == "axial":
        return Verdict(NOBODYS, why)
    suppressed, contrast = _fat_suppressed(acquisition), _contrast(acquisition)
    if weighting == "T1" and (suppressed or contrast):
        kind = "after contrast agent" if contrast else "fat-suppressed"
        return Verdict(UNKNOWN, f"{why}, {kind}", (FORAMINAL,), body)
    group = SUBARTICULAR if plane == "axial" else SPINAL if weighting == "T2" else FORAMINAL
    solid = acquisition.acquisition_type == "3D"
    second = suppressed + contrast + solid + _reformatted(acquisition)
    return Verdict(group, why, (), body, second)


def _could_be(plane: str | None) -> tuple[Group, ...]:
    of_plane = {"sagittal": (SPINAL, FORAMINAL), "axial": (SUBARTICULAR,), "coronal": ()}
    return of_plane[plane] if plane else (SPINAL, FORAMINAL, SUBARTICULAR)


# Weighting


def _weighting(acquisition: Acquisition) -> tuple[str, str]:
    """``T1``, ``T2`` (also STIR), ``other`` or empty; and the source of this answer."""
    by_times = _by_times(acquisition)
    if by_times is not None:
        return by_times
    if acquisition.weighting in _NAMED:
        return _NAMED[acquisition.weighting], "named in the header"
    return _by_description(acquisition)


_NAMED = {"T1": "T1", "T2": "T2", "STIR": "T2"} | dict.fromkeys(
    _names("PROTON_DENSITY FLUID_ATTENUATED DIFFUSION PERFUSION FLOW_ENCODED TOF T2_STAR"), "other"
)


def _by_times(acquisition: Acquisition) -> tuple[str, str] | None:
    echo, repetition = acquisition.echo_ms or 0, acquisition.repetition_ms or 0
    inversion = acquisition.inversion_ms or 0
    if echo <= 0:
        return None
    why = f"echo {echo:g} ms"
    why += f", repetition {repetition:g} ms" if repetition else ""
    why += f", inversion {inversion:g} ms" if inversion else ""
    if inversion > LONGEST_T1_INVERSION_MS:
        return "other", why
    if STIR_INVERSION_MS[0] <= inversion <= STIR_INVERSION_MS[1]:
        return "T2", why
    if echo >= SHORTEST_T2_ECHO_MS:
        fast = 0 < repetition < SHORTEST_T2_REPETITION_MS
        return ("", f"{why}: too fast") if fast else ("T2", why)
    named, _ = _by_description(acquisition)
    if echo >= LONGEST_T1_ECHO_MS:
        return ("T2", why) if named == "T2" else ("", f"{why}: between density and T2")
    if inversion or repetition <= LONGEST_T1_REPETITION_MS:
        return "T1", why
    return ("T1", why) if named == "T1" else ("other", f"{why}: density")


T1_WORDS = re.compile(r"T ?1(?![0-9])")
T2_WORDS = re.compile(r"T ?2(?![0-9])|STIR|TIRM")
DENSITY_WORDS = _words(r"PDW?|DP|PROTON\w*|DENS\w*|DUAL ?ECHO")
FLUID_WORDS = re.compile(r"FLAIR|DARK ?FLUID|TIRM DARK")


def _by_description(acquisition: Acquisition) -> tuple[str, str]:
    text = _text(acquisition)
    t1, t2 = T1_WORDS.search(text), T2_WORDS.search(text)
    if t1 and t2:
        return "", "a description of both T1 and T2"
    if t1:
        return "T1", "described as T1"
    if FLUID_WORDS.search(text):
        return "other", "fluid-attenuated"
    if t2:
        return "T2", "described as T2 or STIR"
    if DENSITY_WORDS.search(text):
        return "other", "density"
    return "", SAYS_NOTHING


# Frames that are not read


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """Text in upper case, without accents, signs replaced by words or blanks; + and * stay."""
    flat = text.upper()
    for sign, words in SIGNS:
        flat = sign.sub(words, flat)
    flat = unicodedata.normalize("NFKD", flat)
    flat = "".join(sign for sign in flat if not unicodedata.combining(sign))
    return " ".join(re.sub(r"[^\w+*]|_", " ", flat).split())


def _text(acquisition: Acquisition) -> str:
    """The text that names a series: its description, otherwise its protocol."""
    return _plain(acquisition.description or acquisition.protocol)


def _body_part(acquisition: Acquisition) -> str:
    """LUMBAR, OTHER, SEVERAL or empty: the source nearest to the series decides.

    If the study was ordered for several parts, the body part may name one of them.
    """
    for text in (acquisition.description, acquisition.protocol):
        if named := _part_named(text):
            return named
    ordered = f"{acquisition.study_description} {acquisition.requested} {acquisition.performed}"
    named = _part_named(ordered)
    return named if named in (LUMBAR, OTHER) else _part_named(acquisition.body_part) or named


@lru_cache(maxsize=4096)
def _part_named(text: str) -> str:
    plain = POSITION.sub(" ", _plain(text))
    named, loosely = LUMBAR_WORDS.search(plain), LOOSELY_LUMBAR.search(plain)
    spine, body = OTHER_SPINE.search(plain), OTHER_BODY.search(plain)
    if WHOLE_SPINE.search(plain) or (spine and (named or loosely)):
        return SEVERAL
    if named:
        return "" if body else LUMBAR
    if spine or body:
        return OTHER
    return LUMBAR if loosely else OTHER if SACRAL.search(plain) else ""


def _localizer(acquisition: Acquisition) -> bool:
    text = _text(acquisition)
    if "LOCALIZER" in acquisition.image_type or LOCALIZER.search(text):
        return True
    planes = THREE_PLANES.search(text)
    return planes is not None and not IN_ONE_PLANE.search(text[: planes.start()])


def _service(acquisition: Acquisition) -> bool:
    text = _text(acquisition)
    return bool(SERVICE.search(text) or SERVICE_ALONE.search(text))


def _diffusion(acquisition: Acquisition) -> bool:
    types = {"ADC", "TRACEW", "TRACE", "DIFFUSION", "FA"} & set(acquisition.image_type)
    text = _text(acquisition)
    named = DIFFUSION.search(text) or DIFFUSION_ALONE.search(text)
    return bool(types or (acquisition.b_value or 0) > 0 or named)


def _map(acquisition: Acquisition) -> bool:
    types = acquisition.image_type
    projected = any("PROJECTION" in one or "SUBTRACT" in one for one in types)
    in_third = len(types) > 2 and types[2] in SOLE_TYPES
    found = DERIVED_TYPES & set(types)
    return bool(projected or in_third or found or MAP.search(_text(acquisition)))


def _echo_planar(acquisition: Acquisition) -> bool:
    named = ECHO_PLANAR_NAMES.search(acquisition.sequence_name)
    named = named or ECHO_PLANAR.search(_text(acquisition))
    return "EP" in acquisition.sequences or bool(named)


def _fat_alone(acquisition: Acquisition) -> bool:
    types = acquisition.image_type
    return bool("FAT" in types or "F" in types[2:] or FAT_ALONE.search(_text(acquisition)))


def _opposed(acquisition: Acquisition) -> bool:
    types = {"OPP_PHASE", "OUT_PHASE", "OPPOSED_PHASE", "OP"} & set(acquisition.image_type)
    return bool(types or OPPOSED.search(_text(acquisition)))


def _in_phase(acquisition: Acquisition) -> bool:
    types = {"IN_PHASE", "IP"} & set(acquisition.image_type)
    return bool(types or IN_PHASE.search(_text(acquisition)))


def _gradient_echo(acquisition: Acquisition) -> bool:
    sequences = set(acquisition.sequences)
    if sequences & {"SE", "SPIN", "IR"} and "GR" not in sequences:
        return False
    if sequences & {"GR", "GRADIENT", "BOTH"} or any("FFE" in t for t in acquisition.image_type):
        return True
    small = 0 < (acquisition.flip_angle or 0) < SMALLEST_SPIN_ECHO_FLIP
    short = 0 < (acquisition.echo_ms or 0) < LONGEST_T1_ECHO_MS
    named = GRADIENT_NAMES.search(acquisition.sequence_name)
    return bool((small and short) or named or GRADIENT_ECHO.search(_text(acquisition)))


def _single_shot(acquisition: Acquisition) -> bool:
    named = SINGLE_SHOT_NAMES.search(acquisition.sequence_name)
    return bool(named or SINGLE_SHOT.search(_text(acquisition)))


RULES = (
    _Rule("a localizer", _localizer),
    _Rule("a scan for calibration", _service),
    _Rule("diffusion", _diffusion),
    _Rule("a map, a projection or a phase", _map),
    _Rule("echo planar", _echo_planar),
    _Rule("fat alone", _fat_alone),
    _Rule("opposed phase", _opposed),
    _Rule("in phase", _in_phase, UNKNOWN),
    _Rule("gradient echo", _gradient_echo, UNKNOWN),
    _Rule("a single shot", _single_shot, UNKNOWN),
)


# Reasons to prefer another series of the same kind


def _fat_suppressed(acquisition: Acquisition) -> bool:
    options = {"FS", "FAT", "WATER", "SPIR", "SPAIR", "SFS"} & set(acquisition.options)
    types = {"WATER", "W"} & set(acquisition.image_type)
    low, high = STIR_INVERSION_MS
    inverted = low <= (acquisition.inversion_ms or 0) <= high
    text = NOT_SUPPRESSED.sub(" ", _text(acquisition))
    return bool(options or types or inverted or FAT_SUPPRESSED.search(text))


def _contrast(acquisition: Acquisition) -> bool:
    """The series name counts before the agent, which scanners copy into every series."""
    text = _text(acquisition)
    rest = WITHOUT_CONTRAST.sub(" ", text).strip()
    if WITH_AND_WITHOUT.search(text) or WITH_CONTRAST.search(rest):
        return True
    agent = _plain(acquisition.contrast_agent)
    return rest == text and bool(agent) and not NO_AGENT.match(agent)


def _reformatted(acquisition: Acquisition) -> bool:
    derived = acquisition.image_type[:1] == ("DERIVED",)
    types = {"MPR", "REFORMATTED", "CPR", "COMPOSED", "COMP"} & set(acquisition.image_type)
    return bool(derived or types or REFORMATTED.search(_text(acquisition)))
