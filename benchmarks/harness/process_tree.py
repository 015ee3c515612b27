"""Measures a command in a fresh process from outside: wall time, CPU time and peak memory.

Memory is that of the whole process tree. Shared pages count once if the system tells (proportional
set size, Linux); otherwise they count in each process (resident set size). Sampling takes time on
the cores that are measured, at most a fiftieth of one core.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from rsna_lumbar.runtime.core.errors import LumbarError

INTERVAL_S = 0.02
LEAST_SAMPLES = 10
LARGEST_SHARE = 0.02  # of one core, for sampling
MEGABYTE = 1e6
LINES_SHOWN = 5
ROWS_COLUMNS = (24, 80)
LAST_BYTES = 4096  # of the output that are kept
LEFT_OPEN_S = 5.0  # wait for processes that still hold the output after the end


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a command."""

    wall_s: float
    cpu_s: float  # user and system, of the process and its children that it waited for
    peak_mb: float | None  # of the tree; None after too few samples
    sign_s: float | None = None  # from the start to the sign, if it came


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
        sign: output to wait for. The command then writes to a terminal, if the system has any:
            programs show their progress only there.

    Raises:
        LumbarError: its exit code is not 0; with the last lines of its output.
    """
    before = os.times()
    if sign and hasattr(os, "openpty"):
        import termios

        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, ROWS_COLUMNS)  # progress bars need a width
    else:
        ours, theirs = os.pipe()
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        output = _Output(ours, sign)
        watch = PeakMemory(process.pid)
        process.wait()
        wall_s = time.perf_counter() - start
        peak_mb = watch.stop()
    output.thread.join(LEFT_OPEN_S)
    if process.returncode:
        lines = output.last.decode(errors="replace").replace("\r", "").strip().split("\n")
        last = " | ".join(lines[-LINES_SHOWN:])
        raise LumbarError(f"{' '.join(command[:4])} ... ended with {process.returncode}: {last}")
    after = os.times()
    cpu_s = after.children_user + after.children_system
    cpu_s -= before.children_user + before.children_system
    return Measured(wall_s, cpu_s, peak_mb, None if output.seen is None else output.seen - start)


class _Output:
    """Reads the output of a process in a thread, and notes when the sign appears."""

    def __init__(self, descriptor: int, sign: re.Pattern[bytes] | None) -> None:
        self.last = b""
        self.seen: float | None = None  # time.perf_counter()
        self.thread = threading.Thread(target=self._read, args=(descriptor, sign), daemon=True)
        self.thread.start()

    def _read(self, descriptor: int, sign: re.Pattern[bytes] | None) -> None:
        # A terminal ends with an OSError.
        with suppress(OSError), os.fdopen(descriptor, "rb", buffering=0) as stream:
            while some := stream.read(LAST_BYTES):
                self.last = (self.last + some)[-LAST_BYTES:]
                if self.seen is None and sign and sign.search(self.last):
                    self.seen = time.perf_counter()


class PeakMemory:
    """Watches a process and its descendants from a thread until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._samples = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """End the watch; return the largest sum, in megabytes (10^6 bytes).

        None after few samples, which may have missed the peak.
        """
        self._ended.set()
        self._thread.join()
        return self._peak / MEGABYTE if self._samples >= LEAST_SAMPLES else None

    def _watch(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            begun = time.thread_time()
            self._peak = max(self._peak, tree_bytes(self._pid))
            self._samples += 1
            pause = max(INTERVAL_S, (time.thread_time() - begun) / LARGEST_SHARE)


def tree_bytes(pid: int) -> int:
    """Memory of a process and all its descendants now; 0 if it is gone."""
    try:
        top = psutil.Process(pid)
        return sum(map(_bytes_of, [top, *top.children(recursive=True)]))
    except psutil.NoSuchProcess:
        return 0


def _bytes_of(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        try:
            found = process.memory_full_info()
        except psutil.AccessDenied:  # a child that is just being started
            found = process.memory_info()
        return int(getattr(found, "pss", 0) or found.rss)
    return 0
