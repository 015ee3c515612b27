"""A command in a fresh process, measured from outside: wall, processor and peak memory.

Memory is that of the whole tree. Pages that processes share count once where the system tells
(proportional set size, Linux); elsewhere resident sets are added up, which counts them in each.
Asking costs time on the cores that are measured, so at most a fiftieth of it is spent on that.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import psutil

from rsna_lumbar.runtime.core.errors import LumbarError

INTERVAL_S = 0.02
LEAST_LOOKS = 10
LARGEST_SHARE = 0.02  # of one core, for looking
MEGABYTE = 1e6
LINES_SHOWN = 5
ROWS_COLUMNS = (24, 80)
LAST_BYTES = 4096  # of what a process said that are kept
LEFT_OPEN_S = 5.0  # for what still holds a terminal when the process has ended


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a command."""

    wall_s: float
    cpu_s: float  # user and system, of the process and of every one that it waited for
    peak_mb: float | None  # of the tree; None where it was too short to tell
    sign_s: float | None = None  # from the start to the sign that was waited for, if it came


def run_measured(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    sign: re.Pattern[bytes] | None = None,
) -> Measured:
    """Run a command to its end.

    Args:
        command: program and arguments.
        folder: to run it in.
        environment: all of its environment.
        sign: what to wait for in what it says. It then talks to a terminal, where the system has
            any, as programs show their progress to nobody else.

    Raises:
        LumbarError: it did not end with 0; with the last lines that it wrote.
    """
    before = os.times()
    ours, theirs = _terminal() if sign and hasattr(os, "openpty") else os.pipe()
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        ear = _Ear(ours, sign)
        watch = PeakMemory(process.pid)
        process.wait()
        wall_s = time.perf_counter() - start
        peak_mb = watch.stop()
    said = ear.close()
    if process.returncode:
        last = " | ".join(said.split("\n")[-LINES_SHOWN:])
        raise LumbarError(f"{' '.join(command[:4])} ... ended with {process.returncode}: {last}")
    after = os.times()
    cpu_s = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return Measured(wall_s, cpu_s, peak_mb, None if ear.heard is None else ear.heard - start)


def _terminal() -> tuple[int, int]:
    """Both ends of a terminal; one without a size would be shown no progress bar."""
    import termios

    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, ROWS_COLUMNS)
    return ours, theirs


class _Ear:
    """Reads what a process says, in a thread, and notes when it says what is waited for."""

    def __init__(self, descriptor: int, sign: re.Pattern[bytes] | None) -> None:
        self._descriptor = descriptor
        self._sign = sign
        self._last = b""
        self.heard: float | None = None  # time.perf_counter()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> str:
        """What was said last."""
        self._thread.join(LEFT_OPEN_S)
        return self._last.decode(errors="replace").replace("\r", "").strip()

    def _listen(self) -> None:
        with os.fdopen(self._descriptor, "rb", buffering=0) as stream:
            while some := _some(stream):
                self._last = (self._last + some)[-LAST_BYTES:]
                if self.heard is None and self._sign and self._sign.search(self._last):
                    self.heard = time.perf_counter()


def _some(stream: FileIO) -> bytes:
    """What comes next; nothing at the end."""
    try:
        return stream.read(LAST_BYTES) or b""
    except OSError:  # how the end of a terminal looks
        return b""


class PeakMemory:
    """Watches a process and its descendants from a thread until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._looks = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """End the watch; return the largest sum seen, in megabytes (10^6 bytes).

        None where it looked so seldom that it may well have missed the peak.
        """
        self._ended.set()
        self._thread.join()
        return self._peak / MEGABYTE if self._looks >= LEAST_LOOKS else None

    def _watch(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            begun = time.thread_time()
            self._peak = max(self._peak, tree_bytes(self._pid))
            self._looks += 1
            pause = max(INTERVAL_S, (time.thread_time() - begun) / LARGEST_SHARE)


def tree_bytes(pid: int) -> int:
    """Memory of a process and all its descendants now; 0 where it is gone."""
    try:
        top = psutil.Process(pid)
        tree = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(map(_bytes_of, tree))


def _bytes_of(process: psutil.Process) -> int:
    try:
        try:
            found = process.memory_full_info()
        except psutil.AccessDenied:  # a child that is just being started
            found = process.memory_info()
        return int(getattr(found, "pss", 0) or found.rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
