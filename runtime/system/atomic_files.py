"""Write a file so that readers see the old content or the new one, never half of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from rsna_lumbar.runtime.system.closing import Closing

try:
    import fcntl
except ImportError:  # Windows: concurrent writers are not detected there
    fcntl = None  # type: ignore[assignment]

# Errors of file systems without locks; concurrent writers are not detected there either.
_LOCKLESS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class OwnFile(Closing):
    """A file that this process alone writes; private to its user. A new one is made if needed.

    ``place`` is the file to open; errors name ``path``.

    Raises:
        OSError: it cannot be written, or another process is writing it; from every method.
    """

    def __init__(self, place: Path, path: Path) -> None:
        self.path = path
        self._place = place
        self.descriptor = claim(place, path)

    def cut(self, length: int) -> None:
        """Keep the first ``length`` bytes, and continue writing after them."""
        with naming(self.path):
            os.ftruncate(self.descriptor, length)
            os.lseek(self.descriptor, length, os.SEEK_SET)

    def write(self, content: bytes) -> None:
        """Append all of the content."""
        rest = memoryview(content)
        with naming(self.path):
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]

    def sync(self) -> None:
        """Flush everything to the disk."""
        with naming(self.path):
            os.fsync(self.descriptor)

    def discard(self) -> None:
        """Remove the file and close it; does nothing if it is already closed."""
        if self.descriptor < 0:
            return
        if fcntl:
            self._place.unlink(missing_ok=True)  # before closing releases the lock
            self.close()
        else:
            self.close()
            self._place.unlink(missing_ok=True)  # Windows cannot remove an open file

    def close(self) -> None:
        """Close it and keep it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class AsideFile(OwnFile):
    """A file written aside, as ``.<name>.part`` in the same folder, until it is published.

    It may still contain what an earlier process wrote: cut it. ``private`` keeps it private to its
    user after publishing too.
    """

    def __init__(self, path: Path, *, private: bool = False) -> None:
        self.aside = aside_of(path)
        self._private = private
        super().__init__(self.aside, path)

    def publish(self) -> None:
        """Sync, rename to the final path, close."""
        self.sync()
        os.chmod(self.aside, 0o600 if self._private else 0o666 & ~_umask())
        if fcntl:
            os.replace(self.aside, self.path)  # before closing releases the lock
            self.close()
        else:
            self.close()
            os.replace(self.aside, self.path)  # Windows cannot rename an open file
        sync_folder(self.path.parent)

    def let_go(self) -> None:
        """Close it; the file stays aside unless it is empty."""
        if self.descriptor >= 0 and not os.fstat(self.descriptor).st_size:
            self.discard()
        self.close()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make system errors name this path, so that a full disk is reported with the user's file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def aside_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def sync_folder(folder: Path) -> None:
    """Flush renames and removals in a folder to the disk, if the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file written aside, see :class:`AsideFile`.

    On leaving the context the file is flushed to disk and renamed to ``path``. On an exception it
    is removed, and the old file stays. What a killed process left aside is overwritten by the next.

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
    """Replace a file like :func:`atomic_file`; text is written as UTF-8."""
    with atomic_file(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Work alone in a folder: no other process that calls this can, until this context ends.

    Raises:
        OSError: another process is working in it.
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
    """Open the file ``aside`` for this process alone; a new file is private. Errors name ``path``.

    Returns:
        Its descriptor, which holds the lock.

    Raises:
        OSError: it cannot be opened, or another process holds the lock.
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
        os.close(descriptor)  # its writer renamed it after it was opened


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
    """Refuse to write to a file that another user made."""
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
