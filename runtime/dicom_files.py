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
# Of a file whose header alone is asked for, no more is looked at: 2000 frames of enhanced MR, or of
# what somebody crafted 10 s and 0.5 GB.
MOST_HEADER_BYTES = 2**23
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
    most_inflated = MOST_HEADER_BYTES if tags else MOST_INFLATED_BYTES + 1
    with quiet_pydicom():
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
