"""DICOM header -> the facts that finding, naming and ordering of series need.

Attributes are named by their DICOM keyword (PS3.6). Values are taken as they are found: ids need
not be valid UIDs, and anything may be missing.
"""

from __future__ import annotations

import errno
import io
import logging
import math
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import config, filereader
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

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
DAMAGED_HEADER = "the header is damaged or cut short"
NO_HEADER = {  # by whether the file is empty
    True: (Reason.NOT_DICOM, "empty"),
    False: (Reason.UNREADABLE, DAMAGED_HEADER),
}
# What pydicom raises on a damaged header.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
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
# Larger files are not read in one piece: what is no DICOM file is refused before it is in memory.
WHOLE_FILE_BYTES = 2**26
MOST_FILE_BYTES = 2**29  # the most pixels that are decoded take half of it
NOT_REGULAR = "not a regular file"
# Of a file whose header alone is asked for, no more is looked at: 2000 frames of enhanced MR, or of
# what somebody crafted 10 s and 0.5 GB.
MOST_HEADER_BYTES = 2**23
# A deflated file may become as large as the most pixels that are decoded, and a header.
MOST_INFLATED_BYTES = 2**28 + 2**24
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


@contextmanager
def _quiet_pydicom() -> Iterator[None]:
    """Odd values are expected, and pydicom's messages about them can quote the header."""
    logger = logging.getLogger("pydicom")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


@contextmanager
def open_dicom(path: Path, *, tags: tuple[str, ...] | None = None) -> Iterator[FileDataset]:
    """Read a regular DICOM file, wholly or only the given tags of its header.

    Raises:
        SkipFile: not a DICOM file, not a regular file, or not readable as one.
    """
    most_inflated = MOST_HEADER_BYTES if tags else MOST_INFLATED_BYTES + 1
    with _quiet_pydicom():
        try:
            with _open_regular(path) as stream, _inflating(most_inflated):
                is_empty = os.fstat(stream.fileno()).st_size == 0
                dataset = pydicom.dcmread(
                    _beginning(stream) if tags else _in_one_piece(stream),
                    stop_before_pixels=tags is not None,
                    specific_tags=list(tags) if tags else None,
                )
        except InvalidDicomError:
            raise SkipFile(Reason.NOT_DICOM) from None
        except OSError as error:
            raise SkipFile(Reason.UNREADABLE, error.strerror or "") from error
        except DAMAGE as error:
            raise SkipFile(Reason.UNREADABLE, DAMAGED_HEADER) from error
        except MemoryError:
            raise SkipFile(Reason.TOO_LARGE, "more memory than there is") from None
        if not dataset:
            raise SkipFile(*NO_HEADER[is_empty])
        try:
            yield dataset
        except DAMAGE as error:  # pydicom converts a value when it is asked for
            raise SkipFile(Reason.UNREADABLE, DAMAGED_HEADER) from error


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
    sop_class = _text(dataset, "SOPClassUID")
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


_most_inflated = ContextVar("_most_inflated", default=MOST_INFLATED_BYTES + 1)


@contextmanager
def _inflating(most_bytes: int) -> Iterator[None]:
    """What is inflated meanwhile ends after so many bytes."""
    token = _most_inflated.set(most_bytes)
    try:
        yield
    finally:
        _most_inflated.reset(token)


class _BoundedZlib:
    """zlib as pydicom's reader uses it, but for what grows beyond all measure."""

    MAX_WBITS = zlib.MAX_WBITS
    error = zlib.error

    @staticmethod
    def decompress(content: bytes, wbits: int = zlib.MAX_WBITS) -> bytes:
        inflated = zlib.decompressobj(wbits).decompress(content, _most_inflated.get())
        if len(inflated) > MOST_INFLATED_BYTES:
            raise SkipFile(Reason.TOO_LARGE, f"inflates to more than {MOST_INFLATED_BYTES} bytes")
        return inflated


# A deflated file is inflated in one piece while pydicom finds out that it is one.
filereader.zlib = _BoundedZlib  # type: ignore[assignment,attr-defined]


def _beginning(stream: BinaryIO) -> BinaryIO:
    """What may be looked at of a header."""
    short = os.fstat(stream.fileno()).st_size <= MOST_HEADER_BYTES
    return stream if short else io.BytesIO(stream.read(MOST_HEADER_BYTES))


def _in_one_piece(stream: BinaryIO) -> BinaryIO:
    """The same file in memory: pydicom reads it in a hundred small pieces."""
    small = os.fstat(stream.fileno()).st_size <= WHOLE_FILE_BYTES
    return io.BytesIO(stream.read()) if small else stream


def _open_regular(path: Path) -> BinaryIO:
    """Open without waiting for a FIFO's writer, and refuse what is no regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise SkipFile(Reason.NOT_DICOM, NOT_REGULAR) from None
        raise
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= MOST_FILE_BYTES:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(found.st_mode):
        raise SkipFile(Reason.TOO_LARGE, f"{found.st_size} bytes")
    raise SkipFile(Reason.NOT_DICOM, NOT_REGULAR)


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
