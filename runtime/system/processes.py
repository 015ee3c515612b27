"""Worker processes that end with the process that started them, no matter how it ends."""

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
    """Processes that end with this one and leave Ctrl-C to it; each calls ``prepare`` first.

    They are spawned: forking a process that has threads (of a runtime library or a progress bar)
    may deadlock. So a script that starts them needs ``if __name__ == "__main__":``.
    """
    # not imported by a process that needs no pool
    from concurrent.futures import ProcessPoolExecutor

    spawn = multiprocessing.get_context("spawn")
    with locks_have_room():
        pool = ProcessPoolExecutor(workers, spawn, initializer=_start, initargs=(prepare,))
    with interrupts_ignored():  # inherited, so it also covers a worker that is still importing
        for _ in range(workers):  # each submission starts one process, because none is idle yet
            pool.submit(int)
    return pool


@contextmanager
def main_module_hidden() -> Iterator[None]:
    """Processes spawned in this context do not import the script that starts them.

    So the script needs no ``if __name__ == "__main__":``. Objects passed to these processes must
    not be defined in the script. Other threads see an empty ``__main__`` meanwhile, for the
    milliseconds that a start takes; two of these contexts must not overlap.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def locks_have_room() -> Iterator[None]:
    """Say what is full if a standard library lock cannot be made; on Linux each lock is a file.

    Raises:
        DataError: the lock cannot be made.
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

    Each worker has two batches in flight or waiting, so memory does not grow with the items.
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
    """Whether this is the main thread, which lives as long as the process."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Processes started in this context leave Ctrl-C to this process.

    If the system allows (not Windows), a Ctrl-C during this time arrives here afterwards.
    """
    if hasattr(signal, "pthread_sigmask"):
        with _interrupts_blocked():
            yield
        return
    if not in_main_thread():  # only the main thread may set signal handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Processes started in this context have no standard error.

    Otherwise a process whose parent ends while it is importing prints a multiprocessing traceback.
    """
    ours = os.dup(2)  # a descriptor that no process inherits
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
    """Block interrupts; child processes inherit the signal mask."""
    resource_tracker.ensure_running()  # otherwise it could start in this context and lift the mask
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
    """Discard what libraries of this process print; its answers report any problem."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def limit_memory(room_bytes: int) -> None:
    """Limit how much this process may grow from now on; more is a MemoryError, or ends it.

    Limits its address space, if the system enforces such a limit (Linux).
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = pages * resource.getpagesize() + room_bytes
        if most == resource.RLIM_INFINITY or wanted < most:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, most))
    except (ImportError, OSError, ValueError):  # Windows; no /proc; or a limit enforced elsewhere
        return


def end_with_parent(*, started_by_main_thread: bool = False) -> None:
    """End this process as soon as the process that started it has ended.

    With ``started_by_main_thread``, on Linux, also while foreign code holds the interpreter lock:
    the kernel ends the process with the thread that started it.
    """
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    if started_by_main_thread and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:  # the parent ended before this call
            os._exit(1)


def _outlive_nobody() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
