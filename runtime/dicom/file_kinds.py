"""The kind of a file by its first bytes, before it is parsed: DICOM, packed, or neither.

A data set without preamble and prefix (PS3.10 7.1) is recognised by its first elements: a tag that
data sets begin with, then ascending tags, each with a length that fits into the file.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import Enum, auto

from pydicom.datadict import dictionary_has_tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

HEAD_BYTES = 4096  # bytes needed to tell a file's kind
UNKNOWN_SIZE = 2**62
PREFIX, PREFIX_AT = b"DICM", 128
GZIP, ZIP = b"\x1f\x8b\x08", b"PK\x03\x04"
ZIPS = (ZIP, b"PK\x05\x06")  # archives with members, and without
BZIP2 = b"BZh", b"1AY&SY"  # the block size is between them
TAR, TAR_AT = b"ustar", 257
ISO_AT, ISO_BYTES = 0x8001, 5  # ISO 9660 and UDF: the first volume descriptor
ISO = (b"CD001", b"BEA01")
# File types that may contain other files and are not opened, by their first bytes.
ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"LZIP": "lzip",
    b"\x1f\x9d\x90": "compress",
    b"MSCF": "cab",
    b"MSWIM": "wim",
    b"PK\x07\x08": "zip in parts",
    b"PK00PK\x03\x04": "zip in parts",
    b"070701": "cpio",
    b"070707": "cpio",
}
# The same by name, if the first bytes do not tell: damaged, encrypted, or a later part of several.
ARCHIVE_NAME = re.compile(
    r".*\.(7z|bz2|cab|dmg|gz|iso|lz4|lzma|rar|tar|tbz2|tgz|txz|xz|zip|zst)(\.[0-9]+)?"
    r"|.*\.[rz][0-9]{2}",
    re.IGNORECASE | re.DOTALL,
)
# First members of zip archives that are documents or programs (ECMA-376, ODF, EPUB, jar, apk).
DOCUMENTS = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"mimetype", b"META-INF/", b"Android")
FILE_META = 0x0002
FIRST_GROUPS = frozenset({FILE_META, 0x0004, 0x0008})
LAST_GROUP = 0x7FE1
UNDEFINED_LENGTH = 0xFFFFFFFF
ELEMENTS = 4  # number of elements that are examined
FEWEST_ELEMENTS = 2  # enough if there are no more, or if the next one is behind the head
# Per explicit VR (PS3.5 7.1.2): format of the length, its offset, offset of the value.
_LENGTHS = {
    str(vr).encode("ascii"): ("L", 8, 12) if vr in EXPLICIT_VR_LENGTH_32 else ("H", 6, 8)
    for vr in VR
    if len(vr) == 2
}


class Kind(Enum):
    """How a file is handled."""

    DICOM = auto()  # with preamble and prefix
    BARE = auto()  # a data set, with or without file meta information
    GZIP = auto()
    ZIP = auto()
    ARCHIVE = auto()  # another kind of archive
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind, and the name of its archive type for reports."""

    kind: Kind
    name: str = ""


OTHER = FileKind(Kind.OTHER)


def kind_of(head: bytes, size: int = UNKNOWN_SIZE) -> FileKind:
    """The kind of a file by its first HEAD_BYTES (all, if it is shorter) and its size in bytes.

    UNKNOWN_SIZE stands for a size that is only known at the end.
    """
    if head[PREFIX_AT : PREFIX_AT + 4] == PREFIX:
        return FileKind(Kind.DICOM)
    if head.startswith(GZIP):
        return FileKind(Kind.GZIP, "gzip")
    if head.startswith(ZIPS):
        return FileKind(Kind.ZIP, "zip")
    for magic, name in ARCHIVES.items():
        if head.startswith(magic):
            return FileKind(Kind.ARCHIVE, name)
    if head.startswith(BZIP2[0]) and head.startswith(BZIP2[1], 4):
        return FileKind(Kind.ARCHIVE, "bzip2")
    if head[TAR_AT : TAR_AT + len(TAR)] == TAR or _is_old_tar(head):
        return FileKind(Kind.ARCHIVE, "tar")
    if _is_data_set(head, size):
        return FileKind(Kind.BARE)
    return OTHER


def is_directory(head: bytes) -> bool:
    """Whether a data set without meta information begins like a DICOMDIR (PS3.10 8)."""
    return head.startswith((b"\x04\x00", b"\x00\x04"))


def is_disc_image(descriptor: bytes) -> bool:
    """Whether the ISO_BYTES at ISO_AT are those of a disc image."""
    return descriptor in ISO


def named_as_archive(name: str) -> bool:
    """Whether a file's name says that it is an archive or a part of one."""
    return ARCHIVE_NAME.fullmatch(name) is not None


def is_document(head: bytes) -> bool:
    """Whether the first member of a zip archive is that of a document, a book or a program."""
    name_at = 30  # APPNOTE 4.3.7
    return head[name_at:].startswith(DOCUMENTS)


def _is_old_tar(head: bytes) -> bool:
    """Whether it is a tar archive from before POSIX, by the checksum of its first header."""
    block, field = head[:512], head[148:156]
    digits = field.strip(b" \0")
    if len(block) < 512 or not digits or not digits.isdigit() or set(digits) & set(b"89"):
        return False
    return sum(block) - sum(field) + 8 * ord(" ") == int(digits, 8)


def _is_data_set(head: bytes, size: int) -> bool:
    return any(
        _elements_fit(head, size, order, explicit=explicit)
        for order, explicit in (("<", True), ("<", False), (">", True))
    )


def _elements_fit(head: bytes, size: int, order: str, *, explicit: bool) -> bool:
    """Whether the first bytes are elements of a data set in this encoding (PS3.5 7.1)."""
    at = before = seen = 0
    try:
        while seen < ELEMENTS:
            group, element = struct.unpack_from(f"{order}HH", head, at)
            if seen and before >> 16 == FILE_META != group:
                return True
            tag = group << 16 | element
            if tag <= before or group > LAST_GROUP or not (seen or _may_begin(group, element)):
                return False
            value_at, length = _value(head, at, order, explicit=explicit)
            if length == UNDEFINED_LENGTH:
                return seen > 0
            if not explicit and length % 2:
                return False
            if value_at + length > size:  # cut: two whole values, or two VRs, are enough evidence
                return seen + explicit >= FEWEST_ELEMENTS
            before, at, seen = tag, value_at + length, seen + 1
    except struct.error:  # the end of the head
        pass
    except KeyError:  # not a VR
        return False
    return seen >= FEWEST_ELEMENTS


def _may_begin(group: int, element: int) -> bool:
    return group in FIRST_GROUPS and (element == 0 or dictionary_has_tag(group << 16 | element))


def _value(head: bytes, at: int, order: str, *, explicit: bool) -> tuple[int, int]:
    """Offset and length of an element's value."""
    if not explicit:
        return at + 8, struct.unpack_from(f"{order}L", head, at + 4)[0]
    (vr,) = struct.unpack_from("2s", head, at + 4)
    format, length_at, value_at = _LENGTHS[vr]
    return at + value_at, struct.unpack_from(f"{order}{format}", head, at + length_at)[0]
