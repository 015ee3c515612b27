"""DICOM header -> the facts that finding, naming and ordering of series need.

Attributes are named by their DICOM keyword (PS3.6). Values are taken as they are found: ids need
not be valid UIDs, and anything may be missing.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset

from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom.acquisition import (
    FRAME_GROUPS,
    TAGS,
    Acquisition,
    acquisitions,
    frame_value,
    has_frame_groups,
)
from rsna_lumbar.runtime.dicom.dataset import MR_CLASSES, is_class, open_dicom
from rsna_lumbar.runtime.dicom.raw_values import (
    plain_integer,
    plain_numbers,
    plain_text,
)

HEADER_TAGS = (
    *TAGS,
    "SOPClassUID",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "AcquisitionTime",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "PixelSpacing",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    *FRAME_GROUPS,
)
LEAST_NORMAL = 0.1  # length of the cross product of two directions that span a plane
MOST_FRAMES = 4096  # of one file that are told apart
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
    """What tells to which study and series a file belongs, and what its frames show.

    A UID is empty where there is none, or something in its place that can be none, such as a name.
    """

    study_uid: str
    series_uid: str
    patient: str  # a hash of PatientID, alike whatever its case and blanks; empty where it is blank
    frame_of_reference_uid: str
    is_mr: bool | None  # None where neither the data set nor the file meta information says
    series_number: float | None
    time: str  # AcquisitionTime as it is written
    rows: int
    columns: int
    acquisitions: tuple[Acquisition, ...]  # one, or one a frame
    orientations: tuple[Vector | None, ...]  # one, or one a frame
    centres_mm: tuple[Vector | None, ...]  # one, or one a frame
    spacing_mm: tuple[float, float] | None  # between rows and columns of the first frame
    frames: int

    @property
    def description(self) -> str:
        """SeriesDescription as it stands there."""
        return self.acquisitions[0].description

    @property
    def orientation(self) -> Vector | None:
        """That of the first frame."""
        return self.orientations[0]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a frame lies in the patient. Millimetres, patient axes (LPS: +x left, +z head)."""

    orientation: Vector
    centre_mm: Vector


def read_header(path: Path) -> Header:
    """Read the facts of one file that is, or may be, an MR image.

    Raises:
        SkipFile: no DICOM file, no MR image, or not readable.
    """
    with open_dicom(path, tags=HEADER_TAGS) as dataset:
        is_mr = mr_claim(dataset)
        if is_mr is False:
            raise SkipFile(Reason.NOT_MR_IMAGE)
        frames = int(_number(dataset, "NumberOfFrames") or 1)
        told = range(min(max(frames, 1), MOST_FRAMES))
        return Header(
            study_uid=_uid(dataset, "StudyInstanceUID"),
            series_uid=_uid(dataset, "SeriesInstanceUID"),
            patient=_hashed(_text(dataset, "PatientID")),
            frame_of_reference_uid=_uid(dataset, "FrameOfReferenceUID"),
            is_mr=is_mr,
            series_number=_number(dataset, "SeriesNumber"),
            time=_text(dataset, "AcquisitionTime"),
            rows=int(_number(dataset, "Rows") or 0),
            columns=int(_number(dataset, "Columns") or 0),
            acquisitions=acquisitions(dataset),
            orientations=_alike(tuple(frame_orientation(dataset, frame) for frame in told)),
            centres_mm=_alike(tuple(_centre_mm(dataset, frame) for frame in told)),
            spacing_mm=pixel_spacing_mm(dataset, 0),
            frames=frames,
        )


def mr_claim(dataset: FileDataset) -> bool | None:
    """Whether it is an MR image: by its class, that of its file meta, or its modality.

    None where none of them says anything, as in files that lost everything but their pixels.
    """
    meta = getattr(dataset, "file_meta", None)
    told = (
        _text(dataset, "SOPClassUID"),
        _text(meta, "MediaStorageSOPClassUID") if meta else "",
    )
    sop_class = next(filter(is_class, told), "")
    if sop_class:
        return sop_class in MR_CLASSES
    modality = _text(dataset, "Modality").upper()
    return modality == "MR" if modality else None


def require_mr_image(dataset: FileDataset) -> None:
    """Raise SkipFile where a file says that it is something else than an MR image."""
    if mr_claim(dataset) is False:
        raise SkipFile(Reason.NOT_MR_IMAGE)


def _centre_mm(dataset: Dataset, frame: int) -> Vector | None:
    geometry = frame_geometry(dataset, frame)
    return geometry.centre_mm if geometry else None


def _alike(vectors: tuple[Vector | None, ...]) -> tuple[Vector | None, ...]:
    return vectors[:1] if len(set(vectors)) == 1 else vectors


def _hashed(patient_id: str) -> str:
    """So that no name is kept: of letters and digits alone, whatever their case."""
    alone, _, _ = patient_id.partition("^^^")  # which some write before who issued it
    plain = "".join(filter(str.isalnum, alone.casefold()))
    return hashlib.blake2b(plain.encode(), digest_size=12).hexdigest() if plain else ""


def frame_geometry(dataset: Dataset, frame: int) -> Geometry | None:
    """Orientation and centre of a frame; None where the header does not say.

    centre = position + (columns - 1) / 2 * dx * row direction + (rows - 1) / 2 * dy * column
    direction (PS3.3 C.7.6.2.1.1; dy is the first value of PixelSpacing).
    """
    orientation = frame_orientation(dataset, frame)
    position = _vector(dataset, "ImagePositionPatient", 3, frame)
    spacing = pixel_spacing_mm(dataset, frame) or (1.0, 1.0)
    if orientation is None or position is None:
        return None
    across = (_extent(dataset, "Columns") - 1) / 2 * spacing[1]
    down = (_extent(dataset, "Rows") - 1) / 2 * spacing[0]
    axes = zip(position, orientation[:3], orientation[3:], strict=True)
    centre = tuple(start + across * row + down * column for start, row, column in axes)
    return Geometry(orientation, centre)


def frame_orientation(dataset: Dataset, frame: int) -> Vector | None:
    """Direction cosines of a frame's rows and columns; None where the header does not say.

    Zeros, and two directions that are one, span no plane and say nothing.
    """
    vector = _vector(dataset, "ImageOrientationPatient", 6, frame)
    if vector is None:
        return None
    (a, b, c), (d, e, f) = vector[:3], vector[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)  # numpy's takes 80 microseconds
    return vector if math.hypot(*normal) > LEAST_NORMAL else None


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
        value = plain[0] if plain and len(plain) == 1 else frame_value(dataset, keyword)
        number = float(value)  # type: ignore[arg-type]
    except (ArithmeticError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _vector(dataset: Dataset, keyword: str, length: int, frame: int = 0) -> Vector | None:
    plain = None if has_frame_groups(dataset) else plain_numbers(dataset, keyword)
    value = plain or frame_value(dataset, keyword, frame)
    try:
        vector = tuple(float(part) for part in value)  # type: ignore[attr-defined]
    except (ArithmeticError, TypeError, ValueError):
        return None
    return vector if len(vector) == length and all(map(math.isfinite, vector)) else None
