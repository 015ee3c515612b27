"""The decoding process: its work, and the memory it shares with the process that started it.

See ``worker_pool.py`` for what is passed between the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from ctypes import c_longlong
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.heap import Arena
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import SkipFile
from rsna_lumbar.runtime.decode.decoder import Decoded, try_slices
from rsna_lumbar.runtime.dicom.slices import Slice
from rsna_lumbar.runtime.system.processes import end_with_parent, limit_memory, without_stderr
from rsna_lumbar.runtime.system.shared_memory import shared_memory

PLACES = 32  # entries of the ring: decoded squares that may wait to be read
HEAD_BYTES = 64  # at the start of the shared memory, before the squares: a cache line of its own
# Memory that a worker may take in addition to its memory at the start. The largest image that is
# decoded has 256 MiB, and a file that stores it uncompressed has as much again.
ROOM_BYTES = 768 * 2**20
NO_IMAGE = np.empty((0, 0), np.uint8)


@dataclass(frozen=True, slots=True)
class Memory:
    """A worker's shared memory: the number of files it has begun, and a ring of squares."""

    shared: Arena
    side_px: int  # side of the largest square

    @property
    def begun(self) -> c_longlong:
        return c_longlong.from_buffer(self.shared.buffer)

    def square(self, index: int, size_px: int) -> NDArray[np.uint8]:
        """The (size_px, size_px) uint8 view of a ring entry."""
        start = HEAD_BYTES + index % PLACES * self.side_px**2
        flat = np.frombuffer(self.shared.buffer, np.uint8, size_px * size_px, start)
        return flat.reshape(size_px, size_px)


class Places:
    """Counts the ring entries that may be written; freed entries are reported through a pipe.

    A semaphore would need space in /dev/shm, which may be full. Both processes hold both ends of
    the pipe, so that neither fails if the other has ended. The pipe has room for all entries.
    """

    def __init__(
        self, given_back: connection.Connection[Any, Any], giving: connection.Connection[Any, Any]
    ) -> None:
        self._given_back = given_back
        self._giving = giving
        self._free = PLACES

    def acquire(self, *, block: bool = True) -> bool:
        """Take an entry, in the worker; False if there is none and ``block`` is false."""
        if not self._free:
            if not block and not self._given_back.poll():
                return False
            (self._free,) = self._given_back.recv_bytes()
        self._free -= 1
        return True

    def release(self, count: int) -> None:
        """Free entries, in the other process, after reading them; all of one message at once."""
        if count:
            self._giving.send_bytes(bytes([count]))

    def close(self) -> None:
        self._given_back.close()
        self._giving.close()


@dataclass(frozen=True, slots=True)
class Reply:
    """One frame of a file, in order; its square is in the next entry of the ring."""

    found: Slice | SkipFile
    last: bool


def new_memory(largest_px: int) -> Memory:
    return Memory(shared_memory(HEAD_BYTES + PLACES * largest_px**2), largest_px)


def work(
    pipe: connection.Connection[Any, Any],
    memory: Memory,
    free: Places,
    preprocessing: Preprocessing,
    started_by_main_thread: bool,
) -> None:
    """The main loop of a worker."""
    end_with_parent(started_by_main_thread=started_by_main_thread)
    without_stderr()  # a panic of a decoder prints a page to it
    limit_memory(ROOM_BYTES)
    pipe.send([])
    place = 0
    while True:
        try:
            files = pipe.recv()
        except EOFError:
            return
        replies: list[Reply] = []
        for file, size_px in files:
            memory.begun.value += 1
            for found, last in _with_last(try_slices(file, size_px, preprocessing)):
                if isinstance(found, Slice):
                    if not free.acquire(block=False):
                        # entries are freed only when the other process has read them
                        pipe.send(replies)
                        replies = []
                        free.acquire()
                    memory.square(place, size_px)[...] = found.image
                    place += 1
                    found = replace(found, image=NO_IMAGE, file=Path())
                replies.append(Reply(found, last))
        pipe.send(replies)


def _with_last(decoded: Decoded) -> Iterable[tuple[Slice | SkipFile, bool]]:
    if isinstance(decoded, SkipFile):
        return ((decoded, True),)
    return ((one, index == len(decoded)) for index, one in enumerate(decoded, start=1))
