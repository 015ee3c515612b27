"""A decoding process: what it does, and what it shares with the one that started it.

It takes a place of its ring of squares (the free ones lie in a pipe, see Places) before it writes,
so memory is bounded however many frames a file holds, and counts the files that it has begun.
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

PLACES = 32  # of a ring: decoded squares that may wait to be read
HEAD_BYTES = 64  # of the shared memory, before the squares: a cache line of its own
# What a worker may take beside what it has when it starts. The most pixels that are decoded are
# 256 MiB, and a file with them stored plainly is as large again.
ROOM_BYTES = 768 * 2**20
NO_IMAGE = np.empty((0, 0), np.uint8)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a worker shares: how many files it has begun, and a ring of squares."""

    shared: Arena
    side_px: int  # of the largest square

    @property
    def begun(self) -> c_longlong:
        return c_longlong.from_buffer(self.shared.buffer)

    def square(self, index: int, size_px: int) -> NDArray[np.uint8]:
        """The (size_px, size_px) uint8 view of a place."""
        start = HEAD_BYTES + index % PLACES * self.side_px**2
        flat = np.frombuffer(self.shared.buffer, np.uint8, size_px * size_px, start)
        return flat.reshape(size_px, size_px)


class Places:
    """Counts the places that may be written; how many were given back comes through a pipe.

    A semaphore would need room in /dev/shm, which may be full. Both sides have both ends of the
    pipe, so that neither fails where the other has ended; all places fit into it.
    """

    def __init__(
        self, given_back: connection.Connection[Any, Any], giving: connection.Connection[Any, Any]
    ) -> None:
        self._given_back = given_back
        self._giving = giving
        self._free = PLACES

    def acquire(self, *, block: bool = True) -> bool:
        """Take one, in the worker; False where there is none, and it shall not wait."""
        if not self._free:
            if not block and not self._given_back.poll():
                return False
            (self._free,) = self._given_back.recv_bytes()
        self._free -= 1
        return True

    def release(self, count: int) -> None:
        """Give some back that were read, from the other side; all of one message at a time."""
        if count:
            self._giving.send_bytes(bytes([count]))

    def close(self) -> None:
        self._given_back.close()
        self._giving.close()


@dataclass(frozen=True, slots=True)
class Reply:
    """One frame of a file, in order, its square in the next place of the ring."""

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
    """A worker's life."""
    end_with_parent(started_by_main_thread=started_by_main_thread)
    without_stderr()  # a panic of a decoder writes a page there
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
                        pipe.send(replies)  # places are freed when they have been read
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
