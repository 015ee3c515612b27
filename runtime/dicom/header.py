"""DICOM header -> the facts needed to find, name and order series.

Attributes are named by their DICOM keyword (PS3.6). Values are taken as found: ids need not be
valid UIDs, and any value may be missing.
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
LEAST_NORMAL = 0.1  # least length of the cross product of two directions that span a plane
MOST_FRAMES = 4096  # frames of one file that are distinguished
# Terms of PS3.3 C.7.6.3.1.2; any other value is not quoted.
PHOTOMETRIC = re.compile("PALETTE COLOR|RGB|YBR_(FULL|FULL_422|ICT|PARTIAL_42[02]|RCT)")
UID = re.compile(r"[0-9.]{1,64}")  # the challenge's UIDs are not valid (PS3.5 9.1)

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What determines a file's study and series, and what its frames show.

    A UID is empty if it is missing, or if the value cannot be a UID (such as a name).
    """

    study_uid: str
    series_uid: str
    patient: str  # hash of PatientID, ignoring case and blanks; empty if PatientID is blank
    frame_of_reference_uid: str
    is_mr: bool | None  # None if neither the data set nor the file meta information says
    series_number: float | None
    time: str  # AcquisitionTime as in the header
    rows: int
    columns: int
    acquisitions: tuple[Acquisition, ...]  # one, or one per frame
    orientations: tuple[Vector | None, ...]  # one, or one per frame
    centres_mm: tuple[Vector | None, ...]  # one, or one per frame
    spacing_mm: tuple[float, float] | None  # between rows and columns of the first frame
    frames: int

    @property
    def description(self) -> str:
        """SeriesDescription exactly as in the header."""
        return self.acquisitions[0].description

    @property
    def orientation(self) -> Vector | None:
        """The orientation of the first frame."""
        return self.orientations[0]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Position of a frame in the patient. Millimetres, patient axes (LPS: +x left, +z head)."""

    orientation: Vector
    centre_mm: Vector
    frame_of_reference_uid: str = ""  # positions of two frames compare where these are equal


def read_header(path: Path) -> Header:
    """Read the facts of one file that is, or may be, an MR image.

    Raises:
        SkipFile: not a DICOM file, not an MR image, or not readable.
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
    """Whether it is an MR image: by its class, its file meta's class, or its modality.

    None if none of them says anything, as in files that lost everything except their pixels.
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
    """Raise SkipFile if a file declares that it is not an MR image."""
    if mr_claim(dataset) is False:
        raise SkipFile(Reason.NOT_MR_IMAGE)


def _centre_mm(dataset: Dataset, frame: int) -> Vector | None:
    geometry = frame_geometry(dataset, frame)
    return geometry.centre_mm if geometry else None


def _alike(vectors: tuple[Vector | None, ...]) -> tuple[Vector | None, ...]:
    return vectors[:1] if len(set(vectors)) == 1 else vectors


def _hashed(patient_id: str) -> str:
    """A hash, so that no name is kept; of letters and digits only, ignoring case."""
    alone, _, _ = patient_id.partition("^^^")  # some append the issuer of the id
    plain = "".join(filter(str.isalnum, alone.casefold()))
    return hashlib.blake2b(plain.encode(), digest_size=12).hexdigest() if plain else ""


def frame_geometry(dataset: Dataset, frame: int) -> Geometry | None:
    """Orientation and centre of a frame; None if the header does not give them.

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
    return Geometry(orientation, centre, _uid(dataset, "FrameOfReferenceUID"))


def frame_orientation(dataset: Dataset, frame: int) -> Vector | None:
    """Direction cosines of a frame's rows and columns; None if the header does not give them.

    Zeros and two equal directions span no plane, and count as missing.
    """
    vector = _vector(dataset, "ImageOrientationPatient", 6, frame)
    if vector is None:
        return None
    (a, b, c), (d, e, f) = vector[:3], vector[3:]
    # numpy's cross product takes 80 microseconds
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return vector if math.hypot(*normal) > LEAST_NORMAL else None


def _extent(dataset: Dataset, keyword: str) -> int:
    plain = plain_integer(dataset, keyword)
    return int(dataset[keyword].value) if plain is None else plain


def pixel_spacing_mm(dataset: Dataset, frame: int) -> tuple[float, float] | None:
    """Spacing between rows and between columns of a frame; None if the header does not give it."""
    spacing = _vector(dataset, "PixelSpacing", 2, frame)
    return (spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None


def instance_number(dataset: Dataset) -> int | None:
    """InstanceNumber if it is present and a number."""
    number = _number(dataset, "InstanceNumber")
    return None if number is None else int(number)


def instance_uid(dataset: Dataset) -> str:
    """SOPInstanceUID exactly as in the header; empty if it is missing."""
    return _text(dataset, "SOPInstanceUID")


def shows_high_values_dark(dataset: Dataset) -> bool:
    """Whether larger values mean darker: MONOCHROME1 or a negative RescaleSlope, but not both.

    Raises:
        SkipFile: the photometric interpretation is not a grey scale.
    """
    photometric = _text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise SkipFile(Reason.NOT_GREY, photometric if PHOTOMETRIC.fullmatch(photometric) else "")
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
