"""Jobs in separate processes: one that crashes or hangs becomes a row, and the others go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.benchmarks.gpu.rows import Row, read_notes

CHILD = "rsna_lumbar.benchmarks.gpu.child"
TIMING_CACHE = "timing.cache"  # of TensorRT's builder, in the private folder
NOT_STARTED_S = 5.0  # a job is not started with less time left


@dataclass(frozen=True, slots=True)
class Job:
    """One check."""

    part: str  # block of the table
    name: str
    function: str  # "module:function", called with (notes, settings, *arguments)
    arguments: tuple[str, ...] = ()
    limit_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of every job."""

    work: Path  # private folder, shared by the jobs of a run
    quick: bool  # fewer rounds and sizes

    @property
    def rounds(self) -> int:
        return 3 if self.quick else 10


def run_job(job: Job, settings: Settings, *, left_s: float) -> list[Row]:
    """Run a job; return its rows, and a row about its end if it did not finish.

    Args:
        job: the check.
        settings: for the child.
        left_s: remaining time of the whole run.
    """
    if left_s < NOT_STARTED_S:
        return [Row(job.part, job.name, "not run: no time left")]
    limit_s = min(job.limit_s, left_s)
    stem = "".join(sign if sign.isalnum() else "-" for sign in f"{job.part}-{job.name}")
    notes, log = settings.work / f"{stem}.jsonl", settings.work / f"{stem}.log"
    with _started(job, settings, notes, log) as process:
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
    rows, step = read_notes(notes)
    ending = _ending(code, limit_s)
    if ending:
        rows.append(Row(job.part, job.name, f"{ending} while {step}{_last_words(log)}"))
    return rows


@contextmanager
def _started(
    job: Job, settings: Settings, notes: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The child; it and all processes that it started are killed when the context ends.

    Its standard input ends with this process in any case; the child watches it.
    """
    words = [sys.executable, "-m", CHILD, job.function, str(notes), str(settings.work)]
    words += ["quick" if settings.quick else "full", job.part, job.name, *job.arguments]
    # Lists of trusted engines and caches of compiled models stay in the private folder.
    private = {"XDG_DATA_HOME": f"{settings.work}/data", "XDG_CACHE_HOME": f"{settings.work}/cache"}
    environment = {**os.environ, **private, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdin:
            process.stdin.close()


def _ending(code: int | None, limit_s: float) -> str:
    """How a child ended, in words; empty if it finished."""
    if code is None:
        return f"hung: stopped after {limit_s:.0f} s"
    if code < 0:
        return f"crashed: signal {-code} ({signal.Signals(-code).name})"
    return f"failed: exit code {code}" if code else ""


def _last_words(log: Path) -> str:
    *_, last = ["", *log.read_text(encoding="utf-8", errors="replace").strip().split("\n")]
    return f"; its last output: {last.strip()}" if last else ""
