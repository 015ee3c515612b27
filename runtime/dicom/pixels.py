"""Stored pixels of a parsed file, by the fastest safe decoder of each transfer syntax.

``DECODERS`` is the table, chosen by measurement (``benchmarks/decoder_speed``): uncompressed pixels
are a view of the bytes that pydicom parsed, and RLE goes directly to pylibjpeg's decoder. pydicom
(with pylibjpeg's plugins) decodes every syntax that is not in the table, and every file that is not
described in the ordinary way or fails. In these cases pydicom's verdict counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from rsna_lumbar.runtime.core.preprocess import PixelArray
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom.raw_values import plain_integer, plain_text
from rsna_lumbar.runtime.dicom.transfer_syntax import PIXEL_DATA, UNDEFINED_LENGTH

MAX_PIXELS = 2**27  # largest declared size that is decoded: 512 frames of 512 x 512
STANDARD_UID = re.compile(r"1\.2\.840\.10008\.[0-9.]{1,40}")  # any other UID is not quoted
UNUSUAL_TAGS = tuple(map(Tag, ("FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable")))
DAMAGED_PIXELS = "damaged or cut short"
GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the grey pixels of a file are stored (PS3.3 C.7.6.3, PS3.5 8)."""

    frames: int
    rows: int
    columns: int
    bits_allocated: int  # 8 or 16
    bits_stored: int  # 1 to bits_allocated
    signed: bool
    little_endian: bool

    @property
    def count(self) -> int:
        return self.frames * self.rows * self.columns

    @property
    def size_bytes(self) -> int:
        return self.count * self.bits_allocated // 8

    @property
    def dtype(self) -> np.dtype[np.integer]:
        order, kind = "><"[self.little_endian], "ui"[self.signed]
        return np.dtype(f"{order}{kind}{self.bits_allocated // 8}")


class _Unusual(Exception):
    """Raised by a decoder of the table to leave the file to pydicom."""


Decode = Callable[[RawDataElement, Layout], PixelArray]


@dataclass(frozen=True, slots=True)
class PixelDecoder:
    """A decoder of the table, as named in the run manifest."""

    name: str
    decode: Decode


@dataclass(frozen=True, slots=True)
class StoredPixels:
    """Every frame of a file, and how it was decoded.

    ``frames`` are (frames, rows, columns) integers of 8 or 16 bits, with the values of pydicom's
    ``pixel_array(raw=True)``; possibly a read-only view of the file's bytes.
    """

    frames: PixelArray
    decoded_by: str  # transfer syntax and decoder


def stored_pixels(dataset: FileDataset) -> StoredPixels:
    """Decode every frame of a parsed file.

    Raises:
        SkipFile: no pixels, not grey, too large, damaged, or of an unknown transfer syntax.
    """
    if PIXEL_DATA not in dataset:
        raise SkipFile(Reason.NO_PIXELS)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    try:
        get_decoder(syntax)
    except NotImplementedError as error:
        known = syntax is not None and STANDARD_UID.fullmatch(str(syntax))
        raise SkipFile(Reason.UNKNOWN_TRANSFER_SYNTAX, str(syntax) if known else "") from error
    layout = _layout(dataset, syntax)
    if layout is None:
        declared = _check_size(dataset)
    else:
        _check_count(layout.count)
        declared = layout.frames
    pixels, failed = _by_table(dataset, syntax, layout)
    if pixels is None:
        decoder = BY_PLUGIN if syntax.is_encapsulated else PYDICOM
        decoder += f" after {failed} of {DECODERS[syntax].name}" if failed else ""
        pixels = _by_pydicom(dataset, syntax)
        _require_declared_size(dataset, syntax, declared)
    else:
        decoder = DECODERS[syntax].name
    frames = pixels.reshape(-1, *pixels.shape[-2:])
    if len(frames) != declared:
        raise SkipFile(Reason.BAD_PIXELS, f"{len(frames)} frames, and {declared} are declared")
    return StoredPixels(frames, f"{syntax.name}: {decoder}")


def _by_table(
    dataset: FileDataset, syntax: UID, layout: Layout | None
) -> tuple[PixelArray | None, str]:
    """Pixels, or None if pydicom has to decode them; and the name of an error that caused it."""
    decoder = DECODERS.get(syntax)
    element = dataset.get_item(PIXEL_DATA, keep_deferred=True)
    if decoder is None or layout is None or not isinstance(element, RawDataElement):
        return None, ""
    try:
        return _without_stray_bits(decoder.decode(element, layout), layout), ""
    except SkipFile:
        raise
    except _Unusual:
        return None, ""
    except Exception as error:  # counted in the run manifest, so that a bug here shows
        return None, type(error).__name__
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pylibjpeg-rle's panic is no Exception; pydicom would panic too
        raise SkipFile(Reason.BAD_PIXELS, DAMAGED_PIXELS) from error


def _by_pydicom(dataset: FileDataset, syntax: UID) -> PixelArray:
    plugin = "pylibjpeg" if syntax.is_encapsulated else ""
    try:
        return pixel_array(dataset, raw=True, decoding_plugin=plugin)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise SkipFile(Reason.BAD_PIXELS, DAMAGED_PIXELS) from error


def _require_declared_size(dataset: FileDataset, syntax: UID, frames: int) -> None:
    """Refuse JPEG pixels whose own header contradicts the file's: they would come out sheared."""
    if syntax not in CODESTREAMS:
        return
    try:
        frame = next(generate_frames(dataset.PixelData, number_of_frames=frames))
        told = import_module(CODESTREAMS[syntax]).get_parameters(frame)
    except Exception:  # it was decoded, so failing to read this header is not a fault of the file
        return
    size, declared = (told["rows"], told["columns"]), (dataset.Rows, dataset.Columns)
    if size != declared or told["precision"] > dataset.BitsAllocated:
        raise SkipFile(Reason.BAD_PIXELS, "another size than is declared")


def _native(element: RawDataElement, layout: Layout) -> PixelArray:
    """A view of the bytes as stored in the file (PS3.5 A.1, A.2, A.3, A.5)."""
    value = element.value or b""
    surplus = len(value) - layout.size_bytes
    row_bytes = layout.columns * layout.bits_allocated // 8
    if surplus >= row_bytes and value[layout.size_bytes :].strip(b"\0"):
        raise SkipFile(Reason.BAD_PIXELS, "more pixels than are declared")
    if surplus not in (0, layout.size_bytes % 2):
        raise _Unusual  # too few bytes are a fault; additional bytes may be padding
    if layout.bits_allocated == 8 and not layout.little_endian:
        raise _Unusual  # pairs of bytes may be swapped
    pixels = np.frombuffer(value, layout.dtype, layout.count)
    return pixels.reshape(layout.frames, layout.rows, layout.columns)


def _rle(element: RawDataElement, layout: Layout) -> PixelArray:
    """One frame of RLE (PS3.5 G); pylibjpeg returns little endian."""
    from rle.utils import decode_pixel_data

    if layout.frames != 1 or element.length != UNDEFINED_LENGTH or element.value is None:
        raise _Unusual
    frame, *more = generate_frames(element.value, number_of_frames=1)
    if more:
        raise _Unusual  # pydicom returns the additional frames too
    decoded = decode_pixel_data(
        frame,
        version=2,
        rows=layout.rows,
        columns=layout.columns,
        bits_allocated=layout.bits_allocated,
    )
    return np.frombuffer(decoded, layout.dtype).reshape(1, layout.rows, layout.columns)


CODESTREAMS = {
    **dict.fromkeys((*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes), "libjpeg.utils"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "openjpeg.utils"),
}  # modules that read the header of a frame
AS_STORED, BY_PYLIBJPEG = PixelDecoder("as stored", _native), PixelDecoder("pylibjpeg-rle", _rle)
# for every syntax that is not in the table
PYDICOM, BY_PLUGIN = "pydicom", "pydicom with pylibjpeg"
DECODERS: Mapping[str, PixelDecoder] = {
    ImplicitVRLittleEndian: AS_STORED,
    ExplicitVRLittleEndian: AS_STORED,
    DeflatedExplicitVRLittleEndian: AS_STORED,
    ExplicitVRBigEndian: AS_STORED,
    RLELossless: BY_PYLIBJPEG,
}


def _without_stray_bits(pixels: PixelArray, layout: Layout) -> PixelArray:
    """Clear the bits above the stored bits (PS3.5 8.1.1); usually there are none."""
    unused = layout.bits_allocated - layout.bits_stored
    value_bits = layout.bits_stored - layout.signed
    if not unused or (
        pixels.max() < 1 << value_bits and (not layout.signed or pixels.min() >= -1 << value_bits)
    ):
        return pixels
    return (pixels << unused) >> unused


def _layout(dataset: FileDataset, syntax: UID) -> Layout | None:
    """The layout; None if the file does not describe its pixels in the ordinary way."""
    if any(tag in dataset for tag in UNUSUAL_TAGS):
        return None
    samples = plain_integer(dataset, "SamplesPerPixel")
    frames = plain_integer(dataset, "NumberOfFrames") if "NumberOfFrames" in dataset else 1
    rows, columns = plain_integer(dataset, "Rows"), plain_integer(dataset, "Columns")
    allocated = plain_integer(dataset, "BitsAllocated")
    stored = plain_integer(dataset, "BitsStored")
    signed = plain_integer(dataset, "PixelRepresentation")
    if not (
        samples == 1
        and frames is not None
        and rows is not None
        and columns is not None
        and min(frames, rows, columns) > 0
        and allocated in (8, 16)
        and stored is not None
        and 1 <= stored <= allocated
        and signed in (0, 1)
        and plain_text(dataset, "PhotometricInterpretation") in GREY
    ):
        return None
    return Layout(
        frames, rows, columns, allocated, stored, signed == 1, bool(syntax.is_little_endian)
    )


def _check_size(dataset: FileDataset) -> int:
    """Declared number of frames of a file that does not describe its pixels in the ordinary way."""
    try:
        samples = int(dataset.get("SamplesPerPixel", 1))
        bits = int(dataset.BitsAllocated)
        frames = int(dataset.get("NumberOfFrames") or 1)
        count = frames * int(dataset.Rows) * int(dataset.Columns)
    except (AttributeError, TypeError, ValueError) as error:
        raise SkipFile(Reason.BAD_PIXELS, "Rows, Columns or BitsAllocated missing") from error
    if samples != 1:
        raise SkipFile(Reason.NOT_GREY, "SamplesPerPixel is not 1")
    if bits not in (8, 16):
        raise SkipFile(Reason.BAD_PIXELS, "BitsAllocated is neither 8 nor 16")
    _check_count(count)
    return frames


def _check_count(count: int) -> None:
    if not 0 < count <= MAX_PIXELS:
        if count <= 0:
            raise SkipFile(Reason.BAD_PIXELS, "no pixels are declared")
        raise SkipFile(Reason.TOO_LARGE, f"more than {MAX_PIXELS} pixels")
