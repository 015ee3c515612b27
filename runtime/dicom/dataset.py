"""A file -> a pydicom dataset, or the reason why it is not usable; every read has a limit."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom.archives import (
    NESTED,
    Inflated,
    archive_of,
    gunzip,
    open_member,
    why_not_read,
)
from rsna_lumbar.runtime.dicom.file_kinds import (
    HEAD_BYTES,
    ISO_AT,
    ISO_BYTES,
    UNKNOWN_SIZE,
    FileKind,
    Kind,
    is_directory,
    is_disc_image,
    is_document,
    kind_of,
    named_as_archive,
)
from rsna_lumbar.runtime.dicom.transfer_syntax import PIXEL_DATA, complete_syntax

DAMAGED_HEADER = "the header is damaged or cut short"
DAMAGED_PACKING = "damaged or cut short where it is packed"
# Exceptions that pydicom raises on a damaged header.
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
# Larger files are not read in one piece: a file that is not DICOM is refused before it is loaded.
WHOLE_FILE_BYTES = 2**26
MOST_FILE_BYTES = 2**29  # twice the size of the largest image that is decoded
NOT_REGULAR = "not a regular file"
# If only the header is requested, no more than this is parsed: enough for 2000 frames of enhanced
# MR; a crafted file takes 10 s and 0.5 GB. Long values that were not requested are skipped.
MOST_HEADER_BYTES = 2**23
LONG_HEADER = f"a header of more than {MOST_HEADER_BYTES >> 20} MiB"
START_OF_PIXELS = b"\xe0\x7f\x10\x00"  # (7fe0,0010), little endian
# Limit of a deflated file: the largest image that is decoded, plus a header.
MOST_INFLATED_BYTES = 2**28 + 2**24
INFLATES_TO_MORE = f"inflates to more than {MOST_INFLATED_BYTES} bytes"
# Roots of DICOM's own class UIDs, and of private ones of GE, Philips and Siemens.
CLASS_ROOTS = ("1.2.840.10008.", "1.2.840.113619.", "1.3.46.670589.", "1.3.12.2.1107.")
MR_CLASSES = frozenset(
    {
        MRImageStorage,
        EnhancedMRImageStorage,
        EnhancedMRColorImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
    }
)
# (0002,0002) in the file meta information, explicit VR little endian (PS3.10 7.1), and its value.
META_CLASS = re.compile(rb"\x02\x00\x02\x00UI[\x01-\x40]\x00([0-9.]{5,64}[\0 ]?)\x02\x00")


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's messages about odd values, which are expected and can quote the header."""
    logger = logging.getLogger("pydicom")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


@dataclass(frozen=True, slots=True)
class _Source:
    """An open file. Its size is UNKNOWN_SIZE if it is only known after inflating it."""

    stream: BinaryIO | Inflated
    size: int
    path: Path
    packed: bool = False


@contextmanager
def open_dicom(path: Path, *, tags: tuple[str, ...] | None = None) -> Iterator[FileDataset]:
    """Read a DICOM file, the whole file or only the given tags of its header.

    It is a regular file, gzipped or not, or a member of a zip archive; with or without preamble,
    prefix and file meta information. If a file that is read wholly does not name its transfer
    syntax, the syntax is inferred from its bytes if possible.

    Raises:
        SkipFile: not a DICOM file, not a regular file, or not readable; or, if the file ends before
            its header says what it is, not of an MR class.
    """
    with quiet_pydicom():
        try:
            with _opened(path, header_alone=tags is not None) as source:
                dataset = _read(source, tags)
        except OSError as error:
            raise SkipFile(Reason.UNREADABLE, error.strerror or "") from error
        except zlib.error as error:
            raise SkipFile(Reason.UNREADABLE, DAMAGED_PACKING) from error
        except MemoryError:
            raise SkipFile(Reason.TOO_LARGE, "more memory than there is") from None
        try:
            yield dataset
        except DAMAGE as error:  # pydicom converts a value when it is accessed
            raise SkipFile(Reason.UNREADABLE, DAMAGED_HEADER) from error


def _read(source: _Source, tags: tuple[str, ...] | None) -> FileDataset:
    if source.size > MOST_FILE_BYTES:
        raise _why_not_read(source, *_kind(source))
    try:
        return _parse(source, tags)
    except InvalidDicomError:
        return _read_unmarked(source, tags)


def _read_unmarked(source: _Source, tags: tuple[str, ...] | None) -> FileDataset:
    """Read a file without preamble and prefix, or the content of a gzip file."""
    kind, head = _kind(source)
    if kind.kind is Kind.GZIP:
        source.stream.seek(0)
        inflated = Inflated(gunzip(source.stream))
        source = _Source(inflated, UNKNOWN_SIZE, source.path.with_suffix(""), packed=True)
        kind, head = _kind(source)
        _limit(inflated, header_alone=tags is not None)
    if kind.kind is Kind.DICOM or (kind.kind is Kind.BARE and not is_directory(head)):
        source.stream.seek(0)
        return _parse(source, tags, force=True)
    raise _why_not_read(source, kind, head)


def _kind(source: _Source) -> tuple[FileKind, bytes]:
    source.stream.seek(0)
    head = source.stream.read(HEAD_BYTES)
    return kind_of(head, source.size), head


def _why_not_read(source: _Source, kind: FileKind, head: bytes) -> SkipFile:
    """The reason for refusing a file that is too large or of a kind that is not parsed."""
    if kind.kind in (Kind.DICOM, Kind.BARE):
        if is_directory(head) or _is_of_another_class(head):
            return SkipFile(Reason.NOT_MR_IMAGE)
        return SkipFile(Reason.TOO_LARGE, f"{source.size} bytes")
    if kind.kind is Kind.GZIP and not source.packed:
        return SkipFile(Reason.TOO_LARGE, f"{source.size} bytes")
    if kind.kind is Kind.ZIP:
        if not source.packed:
            return why_not_read(source.path)
        if is_document(head):
            return SkipFile(Reason.NOT_DICOM)
    if kind.kind is not Kind.OTHER:
        form = NESTED if source.packed else "a {} archive"
        return SkipFile(Reason.ARCHIVE_NOT_READ, form.format(kind.name))
    source.stream.seek(ISO_AT)
    if is_disc_image(source.stream.read(ISO_BYTES)):
        return SkipFile(Reason.ARCHIVE_NOT_READ, "an image of a disc")
    if head and named_as_archive(source.path.name):
        return SkipFile(Reason.ARCHIVE_NOT_READ, "an archive by its name")
    return SkipFile(Reason.NOT_DICOM)


def _parse(source: _Source, tags: tuple[str, ...] | None, *, force: bool = False) -> FileDataset:
    """Parse a DICOM file; ``force`` for a DICOM file known to lack preamble and prefix.

    Raises:
        InvalidDicomError: no preamble and prefix.
        SkipFile: damaged, cut short or too long; in these cases it may also be of another class.
    """
    try:
        stream = _stream(source, header_alone=tags is not None)
        try:
            dataset = _parsed(stream, tags, force)
        except _Deflated:
            inflated = _with_inflated(stream, header_alone=tags is not None)
            dataset = _parsed(inflated, tags, force)
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        if tags is None:
            complete_syntax(dataset)
        if _has_no_pixels(dataset, stream, source.size, header_alone=tags is not None):
            _require_mr_image_so_far(dataset)
            if tags is not None and _is_mr(dataset):
                raise _why_no_pixels(stream, source.size)
        elif not dataset and _meta_class(dataset) not in MR_CLASSES:
            _require_mr_image_so_far(dataset)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise _why_damaged(source, Reason.UNREADABLE, DAMAGED_HEADER) from error
    except SkipFile as skip:
        if skip.reason is not Reason.TOO_LARGE:
            raise
        raise _why_damaged(source, skip.reason, skip.detail) from None
    return dataset


def _parsed(stream: BinaryIO | _Stream, tags: tuple[str, ...] | None, force: bool) -> FileDataset:
    return pydicom.dcmread(
        stream,
        stop_before_pixels=tags is not None,
        specific_tags=list(_as_tags(tags)) if tags else None,
        force=force,
    )


@cache
def _as_tags(keywords: tuple[str, ...]) -> tuple[BaseTag, ...]:
    """Keywords as tags; otherwise pydicom looks up every keyword for every file."""
    return tuple(map(Tag, keywords))


def _has_no_pixels(dataset: FileDataset, stream: _Stream, size: int, *, header_alone: bool) -> bool:
    """Whether a file ends before its pixels begin; not known of the header of a deflated one."""
    if not header_alone:
        return PIXEL_DATA not in dataset
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return False
    if size != UNKNOWN_SIZE and stream.tell() < size:
        return False
    return size != UNKNOWN_SIZE or not stream.read(1)


def _require_mr_image_so_far(dataset: FileDataset) -> None:
    """Raise SkipFile for a file that ends before its pixels and is not, or not yet, declared as MR.

    A file that was cut short has at most the class in its meta information. If its data set says
    what it is, the caller decides.
    """
    meta_class, own_class = _meta_class(dataset), _own_class(dataset)
    if meta_class and meta_class not in MR_CLASSES and own_class not in MR_CLASSES:
        raise SkipFile(Reason.NOT_MR_IMAGE)
    if not own_class and (meta_class or not _told(dataset, "Modality")):
        raise SkipFile(Reason.UNREADABLE, DAMAGED_HEADER)


def is_class(uid: str) -> bool:
    """Whether a UID can be a class of DICOM or of a vendor; anonymisers replace some classes."""
    return uid.startswith(CLASS_ROOTS)


def _is_mr(dataset: FileDataset) -> bool:
    own_class = _own_class(dataset)
    return own_class in MR_CLASSES or (not own_class and _told(dataset, "Modality") == "MR")


def _why_no_pixels(stream: _Stream, size: int) -> SkipFile:
    """The reason for refusing an MR file that ends with its header, or inside it."""
    if stream.tell() > size:
        return SkipFile(Reason.UNREADABLE, DAMAGED_HEADER)
    return SkipFile(Reason.NO_PIXELS)


def _meta_class(dataset: FileDataset) -> str:
    uid = _told(dataset.file_meta, "MediaStorageSOPClassUID")
    return uid if is_class(uid) else ""


def _own_class(dataset: FileDataset) -> str:
    uid = _told(dataset, "SOPClassUID")
    return uid if is_class(uid) else ""


def _told(dataset: Dataset, keyword: str) -> str:
    """A value that is as long as it declares; pydicom accepts a cut value as a shorter one."""
    if keyword not in dataset:
        return ""
    element = dataset.get_item(keyword)
    if isinstance(element, RawDataElement) and len(element.value or b"") < element.length:
        return ""
    return str(dataset.get(keyword) or "")


def _why_damaged(source: _Source, reason: Reason, detail: str) -> SkipFile:
    """The reason for refusing a damaged or long header; without details if its class is not MR."""
    source.stream.seek(0)
    other = _is_of_another_class(source.stream.read(HEAD_BYTES))
    return SkipFile(Reason.NOT_MR_IMAGE) if other else SkipFile(reason, detail)


def _is_of_another_class(head: bytes) -> bool:
    """Whether the file meta information declares a class other than MR."""
    found = META_CLASS.search(head)
    uid = found[1].rstrip(b"\0 ").decode("ascii") if found else ""
    return is_class(uid) and uid not in MR_CLASSES


class _Deflated(Exception):
    """pydicom asks for the rest of a file in one piece: it does so only to inflate a data set."""


class _Stream:
    """A file as pydicom reads it: up to a limit, in which skipped bytes do not count.

    Raises:
        SkipFile: more is read.
        _Deflated: the data set is deflated; it begins here. pydicom would inflate it without limit.
    """

    def __init__(self, stream: BinaryIO | Inflated, most_bytes: int = UNKNOWN_SIZE) -> None:
        self.seek, self.tell = stream.seek, stream.tell
        self.all_of = stream.read
        self._left = most_bytes

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            raise _Deflated
        if size > self._left:
            raise SkipFile(Reason.TOO_LARGE, LONG_HEADER)
        content = self.all_of(size)
        self._left -= len(content)
        return content


def _stream(source: _Source, *, header_alone: bool) -> _Stream:
    """A file for pydicom; wholly read, a small one is in memory, for a hundred small pieces."""
    if header_alone:
        # a smaller file needs no limit, and one that is inflated has its own
        limited = not source.packed and source.size > MOST_HEADER_BYTES
        return _Stream(source.stream, MOST_HEADER_BYTES if limited else UNKNOWN_SIZE)
    if isinstance(source.stream, Inflated):
        return _Stream(source.stream.whole())
    small = source.size <= WHOLE_FILE_BYTES
    return _Stream(io.BytesIO(source.stream.read()) if small else source.stream)


def _with_inflated(stream: _Stream, *, header_alone: bool) -> BinaryIO:
    """The same file with its data set inflated (PS3.5 A.5), as far as it is needed.

    Raises:
        SkipFile: it inflates to too much.
        zlib.error: it is damaged, or cut short in the header.
    """
    start = stream.tell()
    packed = stream.all_of(MOST_HEADER_BYTES if header_alone else -1)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    most = MOST_HEADER_BYTES if header_alone else MOST_INFLATED_BYTES
    content = inflater.decompress(packed, most)
    if header_alone and not inflater.eof and START_OF_PIXELS not in content:
        if not inflater.unconsumed_tail:
            raise zlib.error(DAMAGED_HEADER)
        raise SkipFile(Reason.TOO_LARGE, LONG_HEADER)
    if not header_alone and inflater.decompress(inflater.unconsumed_tail, 1):
        raise SkipFile(Reason.TOO_LARGE, INFLATES_TO_MORE)
    stream.seek(0)
    meta = stream.all_of(start)
    plain = ExplicitVRLittleEndian.encode().ljust(len(DeflatedExplicitVRLittleEndian), b"\0")
    return io.BytesIO(meta.replace(DeflatedExplicitVRLittleEndian.encode(), plain) + content)


@contextmanager
def _opened(path: Path, *, header_alone: bool) -> Iterator[_Source]:
    """Open a file, or a member of the zip archive that its path leads through."""
    try:
        stream, size = _open_regular(path)
    except OSError:
        archive = archive_of(path)
        if archive is None:
            raise
    else:
        with stream:
            yield _Source(stream, size, path)
        return
    with open_member(archive, path) as (inflated, size):
        _limit(inflated, header_alone=header_alone)
        yield _Source(inflated, size, path, packed=True)


def _limit(inflated: Inflated, *, header_alone: bool) -> None:
    if header_alone:
        inflated.limit(MOST_HEADER_BYTES, LONG_HEADER)
    else:
        inflated.limit(MOST_INFLATED_BYTES, INFLATES_TO_MORE)


def _open_regular(path: Path) -> tuple[BinaryIO, int]:
    """Open without waiting for a FIFO's writer, and refuse a file that is not regular."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise SkipFile(Reason.NOT_DICOM, NOT_REGULAR) from None
        raise
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode):
        return os.fdopen(descriptor, "rb"), found.st_size
    os.close(descriptor)
    raise SkipFile(Reason.NOT_DICOM, NOT_REGULAR)
