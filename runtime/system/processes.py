"""Worker processes that end with the process that started them, however that ends."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice
from multiprocessing import connection, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from rsna_lumbar.runtime.core.errors import DataError

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

PR_SET_PDEATHSIG = 1  # prctl(2)
Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_pool(workers: int, prepare: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """Processes that do not outlive this one, and leave Ctrl-C to it; each calls ``prepare`` first.

    They are spawned: forking a process that has threads (a runtime's, a progress bar's) may lock
    up. So a script that starts them needs ``if __name__ == "__main__":``.
    """
    from concurrent.futures import ProcessPoolExecutor  # not for a process that needs no pool

    spawn = multiprocessing.get_context("spawn")
    with locks_have_room():
        pool = ProcessPoolExecutor(workers, spawn, initializer=_start, initargs=(prepare,))
    with interrupts_ignored():  # inherited, so also while a worker is still importing
        for _ in range(workers):  # each submission starts one, as none is idle yet
            pool.submit(int)
    return pool


@contextmanager
def main_module_hidden() -> Iterator[None]:
    """Processes that are spawned meanwhile do not import the script that starts them.

    So the script needs no ``if __name__ == "__main__":``. Nothing that they are given may be
    defined in it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def locks_have_room() -> Iterator[None]:
    """Say what is full where a lock of the standard library cannot be made; Linux has a file each.

    Raises:
        DataError: it cannot.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DataError(
            "/dev/shm is full: worker processes have their locks there; make room, or use one "
            "worker (--workers 1, or --jobs 1 of rsna-train fit)"
        ) from error


def map_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, batch: int = 16
) -> Iterator[Result]:
    """Results in the order of the items; with one worker, computed in this process.

    Two batches a worker are under way or waiting, whatever the number of items: memory is flat.
    """
    if workers == 1:
        yield from map(work, items)
        return
    pending: deque[Future[list[Result]]] = deque()
    pool = worker_pool(workers)
    try:
        for some in _batches(items, batch):
            pending.append(pool.submit(_work_through, work, some))
            if len(pending) >= 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _work_through(work: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [work(item) for item in items]


def in_main_thread() -> bool:
    """Whether this is the thread that lives as long as the process."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Processes that are started meanwhile leave Ctrl-C to this one.

    Where the system can (not Windows), one that comes meanwhile arrives here afterwards.
    """
    if hasattr(signal, "pthread_sigmask"):
        with _interrupts_blocked():
            yield
        return
    if not in_main_thread():  # only it may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Processes that are started meanwhile have no standard error.

    One whose parent ends while it is still importing writes a traceback of multiprocessing's there.
    """
    ours = os.dup(2)  # which no process inherits
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(ours, 2)
        os.close(ours)
        os.close(nowhere)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """The mask is inherited."""
    resource_tracker.ensure_running()  # else it is started meanwhile, and lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(prepare: Callable[[], None] | None) -> None:
    end_with_parent()
    if prepare is not None:
        prepare()


def without_stderr() -> None:
    """Send what libraries of this process say to nowhere: its answers tell what went wrong."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def limit_memory(room_bytes: int) -> None:
    """Let this process grow by so much from now on; more is a MemoryError, or ends it.

    By its address space, where the system keeps such a limit (Linux).
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = pages * resource.getpagesize() + room_bytes
        if most == resource.RLIM_INFINITY or wanted < most:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, most))
    except (ImportError, OSError, ValueError):  # Windows; no /proc; a limit that is kept elsewhere
        return


def end_with_parent(*, started_by_main_thread: bool = False) -> None:
    """End this process as soon as the one that started it has ended.

    Args:
        started_by_main_thread: on Linux, also while foreign code holds the interpreter: the kernel
            ends it with the thread that started it.
    """
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    if started_by_main_thread and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:  # it ended before
            os._exit(1)


def _outlive_nobody() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
