"""Jobs in processes of their own: one that crashes or hangs is a row, and the rest goes on."""

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
NOT_STARTED_S = 5.0  # with less time left than this, a job is not begun


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to try."""

    part: str  # block of the table
    name: str
    function: str  # "module:function", called with (notes, settings, *arguments)
    arguments: tuple[str, ...] = ()
    limit_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What every job is told."""

    work: Path  # private folder, shared by the jobs of a run
    quick: bool  # fewer rounds and sizes

    @property
    def rounds(self) -> int:
        return 3 if self.quick else 10


def run_job(job: Job, settings: Settings, *, left_s: float) -> list[Row]:
    """Run a job; return its rows and, where it did not come to its end, one that says so.

    Args:
        job: what to try.
        settings: for the child.
        left_s: time that the whole run has left.
    """
    if left_s < NOT_STARTED_S:
        return [Row(job.part, job.name, "not run: the time was up")]
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
    """The child, gone with all that it started when the context is left.

    Its standard input ends when this process does, however that ends; the child watches it.
    """
    words = [sys.executable, "-m", CHILD, job.function, str(notes), str(settings.work)]
    words += ["quick" if settings.quick else "full", job.part, job.name, *job.arguments]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            env=_environment(settings.work),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _environment(work: Path) -> dict[str, str]:
    """Lists of trusted engines and caches of compiled models stay in the private folder."""
    private = {"XDG_DATA_HOME": str(work / "data"), "XDG_CACHE_HOME": str(work / "cache")}
    return {**os.environ, **private, "PYTHONUNBUFFERED": "1"}


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin:
        process.stdin.close()


def _ending(code: int | None, limit_s: float) -> str:
    """How a child ended, in words; empty where it came to its end."""
    if code is None:
        return f"hung: stopped after {limit_s:.0f} s"
    if code < 0:
        return f"crashed: signal {-code} ({signal.Signals(-code).name})"
    return f"failed: exit code {code}" if code else ""


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f"; it said last: {said[-1]}" if said else ""
