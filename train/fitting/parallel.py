"""Long work in several processes, and the progress that its tables show."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rsna_lumbar.runtime.system.processes import worker_pool

T = TypeVar("T")
Report = Callable[[str, int], None]

STARTER = "RSNA_LUMBAR_STARTER"  # environment: the process that started this one's ancestor

_POLL_S = 0.3


def run_side_by_side(work: Callable[[T], None], items: Sequence[T], jobs: int) -> None:
    """Do the work on every item, ``jobs`` at a time; with one job, in this process.

    The first error of any item is raised after the running items have ended.
    """
    if jobs == 1 or len(items) < 2:
        for item in items:
            work(item)
        return
    with worker_pool(min(jobs, len(items)), _end_at_interrupt) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            for future in running:
                future.cancel()
        for future in running:
            future.result()


def _end_at_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends long work at once


@contextmanager
def watched(tables: Mapping[str, Sequence[Path]], report: Report) -> Iterator[None]:
    """Report the number of rows of tables as they grow, whichever process writes them.

    Args:
        tables: by name, the places of a CSV table; it may move from one place to another.
        report: called with the name and the number of rows, in rising order, in a thread.
    """
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(tables, report, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(tables: Mapping[str, Sequence[Path]], report: Report, ended: threading.Event) -> None:
    reported, last = dict.fromkeys(tables, 0), False
    while not last:
        last = ended.wait(_POLL_S)
        for name, paths in tables.items():
            rows = max(map(_rows, paths))
            if rows > reported[name]:
                report(name, rows)
                reported[name] = rows


def _rows(table: Path) -> int:
    try:
        return max(0, table.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


def mark_as_starter() -> None:
    """Processes started from here by libraries can then end with this one (end_with_starter)."""
    os.environ[STARTER] = str(os.getpid())


def end_with_starter() -> None:
    """End this process when the one marked as starter ends; does nothing in the starter itself.

    Our own workers watch their parent. This is for processes that a library starts through a
    launcher: they would outlive a kill of the process that needs their work.
    """
    starter = int(os.environ.get(STARTER, os.getpid()))
    if starter != os.getpid() and os.name == "posix":  # elsewhere os.kill(.., 0) kills
        threading.Thread(target=_end_with, args=(starter,), daemon=True).start()


def _end_with(process: int) -> None:
    while True:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(_POLL_S)
