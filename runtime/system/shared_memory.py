"""Memory that processes share: without a name, and really there before anybody writes to it.

The standard library maps a sparse file in /dev/shm or in the temporary folder. Where that file
system is full by the time a page is touched, the process that touches it ends with a bus error,
which no ``try`` catches. So the space is reserved first, where that can fail with an error:

    Linux              memfd_create(2): memory that needs room in no file system
    else on POSIX      a file that was removed, in /dev/shm or the temporary folder, written once
    Windows            the page file, as the standard library does it

It goes with the last process that has it.
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

SHARED = Path("/dev/shm")  # of Linux, in memory
BLOCK_BYTES = 2**20


def shared_memory(size_bytes: int) -> Arena:
    """Zeros that can be passed to a process when it is started; ``buffer`` is the memory.

    Raises:
        DataError: there is no room for them anywhere.
    """
    if sys.platform == "win32":
        return Arena(size_bytes)
    file = _reserved(size_bytes)
    arena = Arena(size_bytes, file)
    util.Finalize(arena, os.close, (file,))
    return arena


def _reserved(size_bytes: int) -> int:
    """A file of that size, all of it in memory or on disk."""
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
    """What to call a place in an error, and how to open a file there; the best first."""
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
    """Give the file its size, and every block of it a place."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size_bytes)
        return
    left = size_bytes  # macOS has no such call
    while left > 0:
        left -= os.write(file, bytes(min(left, BLOCK_BYTES)))
