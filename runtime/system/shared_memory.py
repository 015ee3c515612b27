"""Memory shared by processes: unnamed, and reserved before any process writes to it.

The standard library maps a sparse file in /dev/shm or in the temporary folder. If that file system
is full when a page is first touched, the process that touches it ends with a bus error, which no
``try`` catches. The space is therefore reserved first, in a way that can fail with an error:

    Linux              memfd_create(2): memory that needs no space in any file system
    other POSIX        a removed file, in /dev/shm or the temporary folder, written once
    Windows            the page file, like the standard library

It is freed with the last process that uses it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import util
from multiprocessing.heap import Arena
from pathlib import Path

from rsna_lumbar.runtime.core.errors import DataError

SHARED = Path("/dev/shm")  # a file system in memory, on Linux
BLOCK_BYTES = 2**20


def shared_memory(size_bytes: int) -> Arena:
    """Zeroed memory that can be passed to a process when it starts; ``buffer`` accesses it.

    Raises:
        DataError: there is no space for it anywhere.
    """
    if sys.platform == "win32":
        return Arena(size_bytes)
    file = _reserved(size_bytes)
    arena = Arena(size_bytes, file)
    util.Finalize(arena, os.close, (file,))
    return arena


def _reserved(size_bytes: int) -> int:
    """A file of this size, completely in memory or on disk."""
    tried: list[str] = []
    for name, opened in _places():
        file = -1
        try:
            file = opened()
            _fill(file, size_bytes)
        except OSError as error:
            tried.append(f"{name}: {error.strerror or error}")
            if file >= 0:
                os.close(file)
        else:
            return file
    raise DataError(
        f"no room for the {size_bytes / 2**20:.1f} MiB that a decoding process shares "
        f"({'; '.join(tried)}): make room, set TMPDIR to a folder that has some, or ask for fewer "
        "--workers"
    )


def _places() -> list[tuple[str, Callable[[], int]]]:
    """Name of each place for errors, and how to open a file there; the best first."""
    found: list[tuple[str, Callable[[], int]]] = []
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        found.append(("memory", _in_memory))
    if SHARED.is_dir():
        found.append((str(SHARED), lambda: _without_name(SHARED)))
    found.append(("TMPDIR", lambda: _without_name(Path(tempfile.gettempdir()))))
    return found


def _in_memory() -> int:
    return os.memfd_create("rsna-lumbar")


def _without_name(folder: Path) -> int:
    file, name = tempfile.mkstemp(prefix="rsna-lumbar-", dir=folder)
    os.unlink(name)
    return file


def _fill(file: int, size_bytes: int) -> None:
    """Set the file's size and allocate all of its blocks."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size_bytes)
        return
    left = size_bytes  # macOS does not have this call
    while left > 0:
        left -= os.write(file, bytes(min(left, BLOCK_BYTES)))
