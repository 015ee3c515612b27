"""Writing a file so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: two writers at once are not told apart there
    fcntl = None  # type: ignore[assignment]

# What file systems without locks answer; two writers at once are not told apart there either.
_LOCKLESS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class AsideFile:
    """A file written aside, as ``.<name>.part`` in the same folder, by this process alone.

    It is private until it is published. What an earlier process left aside is still in it: cut it.

    Args:
        path: where it is to be published.
        private: for its user alone also then.

    Raises:
        OSError: it cannot be written, or another process is writing it.
    """

    def __init__(self, path: Path, *, private: bool = False) -> None:
        self.path = path
        self._private = private
        self.aside = aside_of(path)
        self.descriptor = claim(self.aside, path)

    def cut(self, length: int) -> None:
        """Keep so many bytes, and go on writing after them."""
        os.ftruncate(self.descriptor, length)
        os.lseek(self.descriptor, length, os.SEEK_SET)

    def write(self, content: bytes) -> None:
        """Add all of it."""
        rest = memoryview(content)
        with naming(self.path):
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]

    def sync(self) -> None:
        """Have what was written on the disk."""
        with naming(self.path):
            os.fsync(self.descriptor)

    def publish(self) -> None:
        """Sync, rename over the path, close."""
        self.sync()
        os.chmod(self.aside, 0o600 if self._private else 0o666 & ~_umask())
        if fcntl:
            os.replace(self.aside, self.path)  # before closing gives the lock back
            self.close()
        else:
            self.close()
            os.replace(self.aside, self.path)  # Windows renames no open file
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove it, close; nothing where it is closed already."""
        if self.descriptor < 0:
            return
        if fcntl:
            self.aside.unlink(missing_ok=True)
            self.close()
        else:
            self.close()
            self.aside.unlink(missing_ok=True)

    def let_go(self) -> None:
        """Close, and leave it aside unless it is empty."""
        if self.descriptor >= 0 and not os.fstat(self.descriptor).st_size:
            self.discard()
        self.close()

    def close(self) -> None:
        """Leave it aside as it is."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system name this path: a full disk is told with the file that was asked for."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def aside_of(path: Path) -> Path:
    """Where a file stands until it is whole."""
    return path.with_name(f".{path.name}.part")


def sync_folder(folder: Path) -> None:
    """Have renamings and removals in a folder on the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file written aside, see :class:`AsideFile`.

    Leaving the context flushes to disk and renames over ``path``; leaving it by an exception
    removes what was written and keeps the old file. What a killed process left aside is written
    over by the next.

    Raises:
        OSError: the file cannot be written, or another process is writing it.
    """
    aside = AsideFile(path)
    try:
        aside.cut(0)
        with open(aside.descriptor, "wb", closefd=False) as stream:
            yield stream
        aside.publish()
    except BaseException:
        aside.discard()
        raise


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


def claim(aside: Path, path: Path) -> int:
    """Open a file for this process alone; made, private, where it is not there.

    Args:
        aside: to open.
        path: that errors name.

    Returns:
        Its descriptor, which holds the lock.

    Raises:
        OSError: it cannot be opened, or another process has it.
    """
    while True:
        with naming(path):
            descriptor = os.open(aside, _FLAGS, 0o600)
        try:
            _lock(descriptor, path, "another process is writing it")
            _make_private(descriptor, path)
            if _is_still(aside, descriptor):
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


def _make_private(descriptor: int, path: Path) -> None:
    """A file that somebody else made is not written to."""
    if hasattr(os, "fchmod"):
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise OSError(errno.EPERM, "what is aside belongs to another user", str(path))
        os.fchmod(descriptor, 0o600)


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
