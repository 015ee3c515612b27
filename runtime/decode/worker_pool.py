"""Decoding in worker processes: a file that crashes or hangs a worker never affects other files.

    this process                                   worker
    some (file, side) -------- pipe -------------> read_slices
    copy of the square <------ shared memory ----- square, in the next free entry of its ring
    Slices without image <---- pipe -------------- facts from the headers

A worker takes a free entry of its ring (see Places) before it writes, so memory is bounded no
matter how many frames a file has. It processes files in the order of the requests, and counts the
files that it has begun in shared memory. If it dies, the file it was decoding is blamed, and its
other files go to the worker that replaces it. The time limit for a file counts only while this
process is waiting for the worker.

Files and results are sent several at a time: a message costs 0.1 ms on either side, a slice 2 ms.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.decode.decoder import Decoded
from rsna_lumbar.runtime.decode.worker import Memory, Places, Reply, new_memory, work
from rsna_lumbar.runtime.dicom.slices import Slice
from rsna_lumbar.runtime.system.closing import Closing
from rsna_lumbar.runtime.system.processes import (
    in_main_thread,
    interrupts_ignored,
    main_module_hidden,
    quiet_stderr,
)

# Files given to a worker in advance: enough to keep it busy while a batch is scored (16 slices of
# YOLOv8n in int8: 65 ms; a slice to decode: 1 to 2).
IN_HAND = 32
AT_A_TIME = 8  # files per message
FILE_TIMEOUT_S = 300.0  # 512 frames of JPEG 2000 at 512 x 512 take some 40 s
END_TIMEOUT_S = 5.0
MOST_FAILED_STARTS = 4
START_PAUSES_S = (0.2, 1.0, 5.0, 15.0)
NO_START = (
    "a decoding process could not start; is there memory for it? (workers=0 decodes without one.)"
)
START_TIMEOUT_S = 300.0  # for imports from a cold, shared disk

# One process is started at a time: what is put aside meanwhile belongs to the whole process.
_STARTING = threading.Lock()
_SPAWN = multiprocessing.get_context("spawn")  # forking a process with threads may deadlock


class DecodingPool(Closing):
    """At least one worker process that decodes files; a context manager.

    ``largest_px`` is the side of the largest square that will be requested. A worker that takes
    longer than ``timeout_s`` for a file is ended.
    """

    def __init__(
        self,
        workers: int,
        preprocessing: Preprocessing,
        *,
        largest_px: int,
        timeout_s: float = FILE_TIMEOUT_S,
    ) -> None:
        self.ahead = workers * IN_HAND
        self._preprocessing = preprocessing
        self._timeout_s = timeout_s
        self._waiting: deque[_Task] = deque()
        self._workers: list[_Worker] = []
        self._failed_starts = 0  # in a row
        try:
            for _ in range(workers):
                self._workers.append(self._new_worker(new_memory(largest_px)))
        except BaseException:
            self.close()
            raise

    def submit(self, file: Path, size_px: int) -> Callable[[], Decoded]:
        """Request a file's squares; the returned function waits for them.

        Raises:
            DataError: no worker can be started; raised here or when waiting.
        """
        task = _Task(file, size_px)
        self._waiting.append(task)
        if len(self._waiting) >= AT_A_TIME:
            self._give_out()
        return lambda: self._answer(task)

    def close(self) -> None:
        """End the workers, even if they are busy."""
        for worker in self._workers:
            worker.end()
        self._workers = []

    def _answer(self, task: _Task) -> Decoded:
        if task.answer is None:
            self._give_out()
        while task.answer is None:
            self._listen()
        return task.answer

    def _give_out(self) -> None:
        """Give files, in order, to the workers that have the fewest."""
        while self._waiting:
            worker = min(self._workers, key=lambda one: len(one.in_hand))
            count = min(AT_A_TIME, len(self._waiting), IN_HAND - len(worker.in_hand))
            if count <= 0:
                return
            some = [self._waiting.popleft() for _ in range(count)]
            if not worker.give(some):
                self._waiting.extendleft(reversed(some))
                self._replace(worker)

    def _listen(self) -> None:
        """Receive messages from the workers; replace workers that ended or hang."""
        patience_s = min(one.patience_s(self._timeout_s) for one in self._workers)
        began = time.monotonic()
        speaking = connection.wait([one.pipe for one in self._workers], max(0.0, patience_s))
        waited_s = time.monotonic() - began
        for worker in list(self._workers):
            if worker.pipe in speaking:
                alive = worker.hear()
            else:
                worker.wait_more(waited_s)
                alive = worker.patience_s(self._timeout_s) > 0
            if not alive:
                self._replace(worker)
        self._give_out()

    def _replace(self, worker: _Worker) -> None:
        hung = worker.process.is_alive() and not worker.broken
        if not hung:
            worker.hear_out()
        ended = worker.end()
        self._failed_starts = 0 if worker.started else self._failed_starts + 1
        if self._failed_starts == MOST_FAILED_STARTS:
            raise DataError(NO_START)
        blamed = worker.blamed(worker.seen if hung else worker.memory.begun.value)
        if blamed:
            word = f"no answer in {self._timeout_s:g} s" if hung else worker.last_words()
            blamed.answer = SkipFile(Reason.DECODER_FAILED, word)
        again = [task for task in worker.in_hand if task.answer is None]
        for task in again:
            task.slices.clear()
        self._waiting.extendleft(reversed(again))
        memory = worker.memory if ended else new_memory(worker.memory.side_px)
        self._workers[self._workers.index(worker)] = self._new_worker(memory)

    def _new_worker(self, memory: Memory) -> _Worker:
        """Start a worker; if no process or memory is available now, retry a little later."""
        for pause_s in START_PAUSES_S:
            try:
                return self._started_worker(memory)
            except OSError:
                time.sleep(pause_s)
        raise DataError(NO_START)

    def _started_worker(self, memory: Memory) -> _Worker:
        ours, theirs = _SPAWN.Pipe()
        free = Places(*_SPAWN.Pipe(duplex=False))
        memory.begun.value = 0
        process = _SPAWN.Process(
            target=work,
            args=(theirs, memory, free, self._preprocessing, in_main_thread()),
            daemon=True,
        )
        with _STARTING, main_module_hidden(), interrupts_ignored(), quiet_stderr():
            process.start()
        theirs.close()  # so that the pipe closes when the worker ends
        return _Worker(process, ours, memory, free)


@dataclass(eq=False, slots=True)
class _Task:
    file: Path
    size_px: int
    slices: list[Slice] = field(default_factory=list)  # frames received so far
    answer: Decoded | None = None


@dataclass(eq=False, slots=True)
class _Worker:
    """The parent's record of a worker."""

    process: Any
    pipe: connection.Connection[Any, Any]
    memory: Memory
    free: Places
    in_hand: deque[_Task] = field(default_factory=deque)
    started: bool = False
    broken: bool = False  # its pipe was closed, or its data cannot be read
    place: int = 0
    done: int = 0  # number of files
    seen: int = 0  # number of files begun, when last checked
    silent_s: float = 0.0

    def give(self, tasks: list[_Task]) -> bool:
        """Send it some files; False if it has ended."""
        try:
            self.pipe.send([(task.file, task.size_px) for task in tasks])
        except OSError:
            self.broken = True
            return False
        self.in_hand.extend(tasks)
        return True

    def wait_more(self, waited_s: float) -> None:
        """Add time spent waiting for its current file."""
        begun = self.memory.begun.value
        waiting = begun == self.seen and (self.in_hand or not self.started)
        self.silent_s = self.silent_s + waited_s if waiting else 0.0
        self.seen = begun

    def blamed(self, begun: int) -> _Task | None:
        """The file it was decoding, given the number of files it has begun."""
        at = begun - self.done - 1
        return self.in_hand[at] if 0 <= at < len(self.in_hand) else None

    def patience_s(self, timeout_s: float) -> float:
        """Remaining seconds before it times out; infinite if it has no files."""
        if not self.started:
            return START_TIMEOUT_S - self.silent_s
        return timeout_s - self.silent_s if self.in_hand else float(2**20)

    def hear(self) -> bool:
        """Receive its next message; False if there will be no more."""
        try:
            replies = self.pipe.recv()
        except Exception:  # it ended, or a message is cut off or made by another version of us
            self.broken = True
            return False
        self.silent_s = 0.0
        self.started = True
        before = self.place
        for reply in replies:
            self._take(reply)
        self.free.release(self.place - before)
        return True

    def hear_out(self) -> None:
        """Receive everything that it sent before it ended."""
        while self.pipe.poll() and self.hear():
            pass

    def _take(self, reply: Reply) -> None:
        task = self.in_hand[0]
        if isinstance(reply.found, SkipFile):
            task.answer = reply.found
        else:
            image = self.memory.square(self.place, task.size_px).copy()
            self.place += 1
            task.slices.append(replace(reply.found, image=image, file=task.file))
            if reply.last:
                task.answer = task.slices
        if reply.last:
            self.in_hand.popleft()
            self.done += 1

    def last_words(self) -> str:
        """How its process ended."""
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"the decoder crashed on it (signal {-code})"
        return "the decoder crashed on it"

    def end(self) -> bool:
        """End its process; False if it cannot end: one waiting for a dead disk is left."""
        self.process.kill()
        self.process.join(END_TIMEOUT_S)
        self.pipe.close()
        self.free.close()
        return not self.process.is_alive()
