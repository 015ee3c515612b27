"""Long work in several processes that report on the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import TypeVar

from rsna_lumbar.runtime.system.processes import locks_have_room, worker_pool

T = TypeVar("T")
Report = Callable[[str, int], None]
Reports = SimpleQueue[tuple[str, int]]

STARTER = "RSNA_LUMBAR_STARTER"  # environment: the process that started this one's ancestor

_POLL_S = 0.2
_reports: Reports | None = None  # of a worker process, set when it starts


def run_side_by_side(
    work: Callable[[T, Report], None], items: Sequence[T], jobs: int, report: Report
) -> None:
    """Do the work on every item, ``jobs`` at a time; with one job, in this process.

    ``work`` is called with an item and a function to report by, whose calls arrive at
    ``report`` here. The first error of any item is raised, after those under way have ended.
    """
    if jobs == 1 or len(items) < 2:
        for item in items:
            work(item, report)
        return
    with locks_have_room():
        reports: Reports = multiprocessing.get_context("spawn").SimpleQueue()
    with worker_pool(min(jobs, len(items)), partial(_take, reports)) as pool:
        running = [pool.submit(_work, work, item) for item in items]
        try:
            _pass_on(reports, running, report)
        finally:
            for future in running:
                future.cancel()
        for future in running:
            future.result()


def _take(reports: Reports) -> None:
    global _reports
    _reports = reports
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # long work: Ctrl-C ends it at once


def _work(work: Callable[[T, Report], None], item: T) -> None:
    work(item, _report)


def _report(name: str, count: int) -> None:
    if _reports is not None:
        _reports.put((name, count))


def _pass_on(reports: Reports, running: Sequence[Future[None]], report: Report) -> None:
    """Until all are done or one has failed."""
    ended = False
    while not ended:
        done, pending = wait(running, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
        ended = not pending or any(future.exception() for future in done)
        while not reports.empty():
            report(*reports.get())


def mark_as_starter() -> None:
    """Have the processes that libraries start from here end with this one, if they are asked to."""
    os.environ[STARTER] = str(os.getpid())


def end_with_starter() -> None:
    """End when the process marked as starter is gone; does nothing in itself or without one.

    Workers of ours watch their parent. This is for processes that a library starts through a
    launcher, which would outlive a kill of the one that wants their work.
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
