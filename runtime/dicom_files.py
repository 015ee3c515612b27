"""A file -> a pydicom dataset, or the reason why it is none: nothing is read without a limit."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import config, filereader
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from rsna_lumbar.runtime.reasons import Reason, SkipFile

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
# Larger files are not read in one piece: what is no DICOM file is refused before it is in memory.
WHOLE_FILE_BYTES = 2**26
MOST_FILE_BYTES = 2**29  # the most pixels that are decoded take half of it
NOT_REGULAR = "not a regular file"
# Of a file whose header alone is asked for, no more is parsed: 2000 frames of enhanced MR, or of
# what somebody crafted 10 s and 0.5 GB. Long values that nobody asked for are passed over.
MOST_HEADER_BYTES = 2**23
LONG_HEADER = f"a header of more than {MOST_HEADER_BYTES >> 20} MiB"
START_OF_PIXELS = b"\xe0\x7f\x10\x00"  # (7fe0,0010), little endian
# A deflated file may become as large as the most pixels that are decoded, and a header.
MOST_INFLATED_BYTES = 2**28 + 2**24


@contextmanager
def quiet_pydicom() -> Iterator[None]:
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
    with quiet_pydicom():
        try:
            with _open_regular(path) as stream, _inflating(header_alone=tags is not None):
                is_empty = os.fstat(stream.fileno()).st_size == 0
                dataset = pydicom.dcmread(
                    _metered(stream) if tags else _in_one_piece(stream),
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


_header_alone = ContextVar("_header_alone", default=False)


@contextmanager
def _inflating(*, header_alone: bool) -> Iterator[None]:
    """How much of a deflated file is inflated meanwhile."""
    token = _header_alone.set(header_alone)
    try:
        yield
    finally:
        _header_alone.reset(token)


class _BoundedZlib:
    """zlib as pydicom's reader uses it, but for what grows beyond all measure."""

    MAX_WBITS = zlib.MAX_WBITS
    error = zlib.error

    @staticmethod
    def decompress(content: bytes, wbits: int = zlib.MAX_WBITS) -> bytes:
        inflater = zlib.decompressobj(wbits)
        if _header_alone.get():
            begin = inflater.decompress(content, MOST_HEADER_BYTES)
            if inflater.unconsumed_tail and START_OF_PIXELS not in begin:
                raise SkipFile(Reason.TOO_LARGE, LONG_HEADER)
            return begin
        inflated = inflater.decompress(content, MOST_INFLATED_BYTES + 1)
        if len(inflated) > MOST_INFLATED_BYTES:
            raise SkipFile(Reason.TOO_LARGE, f"inflates to more than {MOST_INFLATED_BYTES} bytes")
        return inflated


# A deflated file is inflated in one piece while pydicom finds out that it is one.
filereader.zlib = _BoundedZlib  # type: ignore[assignment,attr-defined]


class _Metered:
    """A file of which only so much may be read; what is passed over is not read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.seek, self.tell = stream.seek, stream.tell
        self._stream = stream
        self._left = MOST_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        if size > self._left:
            raise SkipFile(Reason.TOO_LARGE, LONG_HEADER)
        content = self._stream.read(self._left if size < 0 else size)
        self._left -= len(content)
        return content


def _metered(stream: BinaryIO) -> BinaryIO | _Metered:
    """The same file; one that is small as a whole needs no meter."""
    small = os.fstat(stream.fileno()).st_size <= MOST_HEADER_BYTES
    return stream if small else _Metered(stream)


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
