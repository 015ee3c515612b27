"""Infer the transfer syntax of a data set that does not name it, as far as its bytes allow.

The byte order, and whether the VR is explicit, are those with which pydicom parsed it. The codec of
encapsulated pixels is recognised by the first bytes of their first frame, if these are unambiguous.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_fragments
from pydicom.tag import Tag
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSNearLossless,
    RLELossless,
)

SYNTAX, PIXEL_DATA = Tag("TransferSyntaxUID"), Tag("PixelData")
UNDEFINED_LENGTH = 0xFFFFFFFF
NATIVE = {  # by (is implicit, is little endian)
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
# Codestreams: their first markers (ITU-T T.800 A.4, T.814, T.81 B.1, T.87 C.1).
JPEG2000_START, CAPABILITIES = b"\xff\x4f\xff\x51", b"\xff\x50"
JPEG_START = b"\xff\xd8"
# marker of the frame header -> the syntax that decodes all codestreams of this kind
JPEG_FRAMES = {
    0xC0: JPEGBaseline8Bit,
    0xC1: JPEGExtended12Bit,
    0xC3: JPEGLossless,
    0xF7: JPEGLSNearLossless,
}
# segments before a frame
JPEG_SEGMENTS = frozenset({0xC4, 0xDB, 0xDD, 0xF8, 0xFE, *range(0xE0, 0xF0)})
RLE_HEADER = struct.Struct("<16L")  # PS3.5 G.5: number of segments, their offsets
RLE_SEGMENTS = range(1, 16)


def complete_syntax(dataset: FileDataset) -> None:
    """Set the transfer syntax of a parsed file if it is missing; empty if the bytes do not tell."""
    if SYNTAX in dataset.file_meta:
        return
    syntax = NATIVE.get(dataset.original_encoding)  # type: ignore[arg-type]
    element = dataset.get_item(PIXEL_DATA) if PIXEL_DATA in dataset else None
    if isinstance(element, RawDataElement) and element.length == UNDEFINED_LENGTH:
        explicit = syntax == ExplicitVRLittleEndian
        syntax = encapsulated_syntax(_first_fragment(element.value or b"")) if explicit else None
    dataset.file_meta.TransferSyntaxUID = syntax or UID("")


def encapsulated_syntax(fragment: bytes) -> UID | None:
    """The syntax of encapsulated pixels by their first fragment; None if that is ambiguous."""
    if fragment.startswith(JPEG2000_START):
        size = int.from_bytes(fragment[4:6], "big")
        return HTJ2K if fragment.startswith(CAPABILITIES, 4 + size) else JPEG2000
    if fragment.startswith(JPEG_START):
        return JPEG_FRAMES.get(_jpeg_frame(fragment))
    return RLELossless if _is_rle(fragment) else None


def _first_fragment(value: bytes) -> bytes:
    """The first fragment after the offset table (PS3.5 A.4); empty if there is none."""
    fragments = generate_fragments(value)
    next(fragments, b"")
    return next(fragments, b"")


def _jpeg_frame(fragment: bytes) -> int:
    """The marker of a JPEG frame header; 0 if there is none."""
    at = len(JPEG_START)
    while at + 4 <= len(fragment) and fragment[at] == 0xFF:
        marker = fragment[at + 1]
        if marker not in JPEG_SEGMENTS:
            return marker
        at += 2 + int.from_bytes(fragment[at + 2 : at + 4], "big")
    return 0


def _is_rle(fragment: bytes) -> bool:
    """Whether the segments follow one another directly from the end of the header."""
    if len(fragment) <= RLE_HEADER.size:
        return False
    count, *offsets = RLE_HEADER.unpack_from(fragment)
    if count not in RLE_SEGMENTS or any(offsets[count:]) or offsets[0] != RLE_HEADER.size:
        return False
    ends = [*offsets[:count], len(fragment)]
    return all(before < after for before, after in pairwise(ends))
