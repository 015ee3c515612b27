"""Writing a file so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TextIO

try:
    import fcntl
except ImportError:  # Windows: two writers at once are not told apart there
    fcntl = None  # type: ignore[assignment]

# What file systems without locks answer; two writers at once are not told apart there either.
_LOCKLESS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file written aside, as ``.<name>.part`` in the same folder.

    Leaving the context flushes to disk and renames over ``path``; leaving it by an exception
    removes what was written and keeps the old file. What a killed process left aside is written
    over by the next.

    Raises:
        OSError: the file cannot be written, or another process is writing it.
    """
    aside = path.with_name(f".{path.name}.part")
    with os.fdopen(_claim(aside, path), "wb") as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.chmod(aside, 0o666 & ~_umask())
            if fcntl:
                os.replace(aside, path)  # before closing gives the lock back
        except BaseException:
            if fcntl:
                aside.unlink(missing_ok=True)
            raise
    if not fcntl:
        os.replace(aside, path)  # Windows renames no open file


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file with Unix line ends, written as :func:`atomic_file` does."""
    with atomic_file(path) as raw:
        stream = TextIOWrapper(raw, encoding="utf-8", newline="\n")
        try:
            yield stream
        finally:
            stream.detach()  # flushes, and leaves closing to atomic_file


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file, text as UTF-8, as :func:`atomic_file` does."""
    with atomic_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Work in a folder alone: no other process that asks for the same may, until this one ends.

    Raises:
        OSError: another process is at work in it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder, "another process is at work in it")
        yield
    finally:
        os.close(descriptor)


def _claim(aside: Path, path: Path) -> int:
    """Open the file aside, empty and for this process alone."""
    while True:
        try:
            descriptor = os.open(aside, _FLAGS, 0o600)
        except OSError as error:  # name the file that was asked for, not the one aside
            raise OSError(error.errno, error.strerror, str(path)) from error
        try:
            _lock(descriptor, path, "another process is writing it")
            if _is_still(aside, descriptor):
                os.ftruncate(descriptor, 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its writer has renamed it since it was opened


def _lock(descriptor: int, path: Path, refusal: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EBUSY, refusal, str(path)) from None
    except OSError as error:
        if error.errno not in _LOCKLESS:
            raise OSError(error.errno, error.strerror, str(path)) from error


def _is_still(aside: Path, descriptor: int) -> bool:
    try:
        found, opened = os.stat(aside), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
