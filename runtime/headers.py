"""DICOM header -> the facts that finding, naming and ordering of series need.

Attributes are named by their DICOM keyword (PS3.6). Values are taken as they are found: ids need
not be valid UIDs, and anything may be missing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from rsna_lumbar.runtime.dicom_files import open_dicom
from rsna_lumbar.runtime.plain_values import (
    plain_integer,
    plain_numbers,
    plain_text,
    tag_and_vr,
)
from rsna_lumbar.runtime.reasons import Reason, SkipFile

MR_CLASSES = frozenset(
    {
        MRImageStorage,
        EnhancedMRImageStorage,
        EnhancedMRColorImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
    }
)
FRAME_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
HEADER_TAGS = (
    "ImageType",
    "SOPClassUID",
    "Modality",
    "SeriesDescription",
    "RepetitionTime",
    "EffectiveEchoTime",
    "EchoTime",
    "InversionTime",
    "InversionTimes",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImageOrientationPatient",
    *FRAME_GROUPS,
)
# Terms of PS3.3 C.7.6.3.1.2: anything else in their place is not quoted.
PHOTOMETRIC = frozenset(
    {
        "PALETTE COLOR",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_ICT",
        "YBR_PARTIAL_420",
        "YBR_PARTIAL_422",
        "YBR_RCT",
    }
)

UID = re.compile(r"[0-9.]{1,64}")  # those of the challenge are no valid ones (PS3.5 9.1)

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What tells a series' kind and to which study it belongs. Times in milliseconds.

    A UID is empty where there is none, or something in its place that can be none, such as a name.
    """

    study_uid: str
    series_uid: str
    description: str
    image_type: tuple[str, ...]
    orientation: Vector | None  # row and column direction cosines, patient axes (LPS)
    echo_time_ms: float | None
    repetition_time_ms: float | None
    inversion_time_ms: float | None  # 0 or None where nothing was inverted


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a frame lies in the patient. Millimetres, patient axes (LPS: +x left, +z head)."""

    orientation: Vector
    centre_mm: Vector


def read_header(path: Path) -> Header:
    """Read the facts of one MR image.

    Raises:
        SkipFile: no DICOM file, no MR image, or not readable.
    """
    with open_dicom(path, tags=HEADER_TAGS) as dataset:
        require_mr_image(dataset)
        return Header(
            study_uid=_uid(dataset, "StudyInstanceUID"),
            series_uid=_uid(dataset, "SeriesInstanceUID"),
            description=_text(dataset, "SeriesDescription"),
            image_type=tuple(_text(dataset, "ImageType").upper().split("\\")),
            orientation=_vector(dataset, "ImageOrientationPatient", 6),
            echo_time_ms=_number(dataset, "EchoTime") or _number(dataset, "EffectiveEchoTime"),
            repetition_time_ms=_number(dataset, "RepetitionTime"),
            inversion_time_ms=_number(dataset, "InversionTime")
            or _number(dataset, "InversionTimes"),
        )


def require_mr_image(dataset: Dataset) -> None:
    """Raise SkipFile unless Modality or SOPClassUID says MR image."""
    sop_class = _text(dataset, "SOPClassUID") or str(
        getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID", "")
    )
    if sop_class not in MR_CLASSES and not (
        not sop_class and _text(dataset, "Modality").upper() == "MR"
    ):
        raise SkipFile(Reason.NOT_MR_IMAGE)


def frame_geometry(dataset: Dataset, frame: int) -> Geometry | None:
    """Orientation and centre of a frame; None where the header does not say.

    centre = position + (columns - 1) / 2 * dx * row direction + (rows - 1) / 2 * dy * column
    direction (PS3.3 C.7.6.2.1.1; dy is the first value of PixelSpacing).
    """
    orientation = _vector(dataset, "ImageOrientationPatient", 6, frame)
    position = _vector(dataset, "ImagePositionPatient", 3, frame)
    spacing = pixel_spacing_mm(dataset, frame) or (1.0, 1.0)
    if orientation is None or position is None:
        return None
    across = (_extent(dataset, "Columns") - 1) / 2 * spacing[1]
    down = (_extent(dataset, "Rows") - 1) / 2 * spacing[0]
    axes = zip(position, orientation[:3], orientation[3:], strict=True)
    centre = tuple(start + across * row + down * column for start, row, column in axes)
    return Geometry(orientation, centre)


def _extent(dataset: Dataset, keyword: str) -> int:
    plain = plain_integer(dataset, keyword)
    return int(dataset[keyword].value) if plain is None else plain


def pixel_spacing_mm(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    """Between rows and between columns of a frame; None where the header does not say."""
    spacing = _vector(dataset, "PixelSpacing", 2, frame)
    return (spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None


def instance_number(dataset: Dataset) -> int | None:
    """InstanceNumber where it is there and a number."""
    number = _number(dataset, "InstanceNumber")
    return None if number is None else int(number)


def instance_uid(dataset: Dataset) -> str:
    """SOPInstanceUID as it stands there; empty where it is missing."""
    return _text(dataset, "SOPInstanceUID")


def shows_high_values_dark(dataset: Dataset) -> bool:
    """Whether larger stored values mean darker: MONOCHROME1 or a negative RescaleSlope, not both.

    Raises:
        SkipFile: the photometric interpretation is no grey scale.
    """
    photometric = _text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise SkipFile(Reason.NOT_GREY, photometric if photometric in PHOTOMETRIC else "")
    slope = _number(dataset, "RescaleSlope")
    return (photometric == "MONOCHROME1") != (slope is not None and slope < 0)


def _value(dataset: Dataset, keyword: str, frame: int = 0) -> object:
    """A value from the dataset itself, else from its functional groups (enhanced MR)."""
    if tag_and_vr(keyword)[0] in dataset:
        value = dataset.get(keyword)
        if value is not None:
            return value
    for sequence, index in zip(FRAME_GROUPS, (0, frame), strict=True):
        if tag_and_vr(sequence)[0] not in dataset:
            continue
        items = dataset.get(sequence)
        if items is None or len(items) <= index:
            continue
        for element in items[index]:
            if element.VR == "SQ" and element.value and keyword in element.value[0]:
                return element.value[0].get(keyword)
    return None


def _text(dataset: Dataset, keyword: str) -> str:
    plain = plain_text(dataset, keyword)
    if plain is not None:
        return plain
    value = dataset.get(keyword)
    if value is None:
        return ""
    parts = value if not isinstance(value, str) and hasattr(value, "__iter__") else [value]
    return "\\".join(str(part).strip() for part in parts)


def _uid(dataset: Dataset, keyword: str) -> str:
    text = _text(dataset, keyword)
    return text if UID.fullmatch(text) else ""


def _number(dataset: Dataset, keyword: str) -> float | None:
    plain = plain_numbers(dataset, keyword)
    try:
        value = plain[0] if plain and len(plain) == 1 else _value(dataset, keyword)
        number = float(value)  # type: ignore[arg-type]
    except (ArithmeticError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _vector(dataset: Dataset, keyword: str, length: int, frame: int = 0) -> Vector | None:
    value = plain_numbers(dataset, keyword) or _value(dataset, keyword, frame)
    try:
        vector = tuple(float(part) for part in value)  # type: ignore[attr-defined]
    except (ArithmeticError, TypeError, ValueError):
        return None
    return vector if len(vector) == length and all(map(math.isfinite, vector)) else None
