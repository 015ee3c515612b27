"""``benchmarks/gpu_check OUT``: try all formats, precisions and parts that a GPU is needed for."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import click

from rsna_lumbar.benchmarks.gpu.jobs import Job, Settings, run_job
from rsna_lumbar.benchmarks.gpu.plan import (
    DRAWN,
    FACTS,
    NOTES,
    first_jobs,
    gpu_jobs,
    has_gpu,
    missing_rows,
)
from rsna_lumbar.benchmarks.gpu.report import Report, as_json, as_text
from rsna_lumbar.benchmarks.gpu.rows import Row
from rsna_lumbar.benchmarks.harness.machine import describe_machine, versions
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.entry_point import common_options, entry_point

STEM = "gpu_check"
ALWAYS = (FACTS, DRAWN)  # what the others go by
MINUTE_S = 60.0


class Check:
    """One run: the time that is left, and the rows so far, on disk after every job."""

    def __init__(self, out: Path, settings: Settings, *, limit_s: float, only: str) -> None:
        self.rows: list[Row] = []
        self._out = out
        self._settings = settings
        self._only = only
        self._limit_s = limit_s
        self._start = time.monotonic()
        self._date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")

    def run(self, jobs: Iterable[Job], say: Callable[[str], None]) -> None:
        """Run the jobs one after the other, so that none disturbs the timing of another."""
        for job in jobs:
            if job.part in ALWAYS or self._only in f"{job.part}: {job.name}":
                say(f"{job.part}: {job.name}")
                left_s = self._limit_s - (time.monotonic() - self._start)
                self.add(run_job(job, self._settings, left_s=left_s))

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows and write both files."""
        self.rows += [row.cleaned() for row in rows]
        report = self.report()
        write_atomically(self._out / f"{STEM}.json", as_json(report))
        write_atomically(self._out / f"{STEM}.txt", as_text(report))

    def report(self) -> Report:
        conditions = (
            describe_machine(),
            versions(),
            f"{'quick' if self._settings.quick else 'full'}: medians of {self._settings.rounds} "
            "rounds; each part in a process of its own, one after the other",
        )
        return Report(self._date, conditions, NOTES, tuple(self.rows))


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--quick", is_flag=True, help="Fewer rounds, studies, sizes and batch sizes.")
@click.option("--only", default="", metavar="TEXT", help="Only the jobs whose name holds TEXT.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=9.5,
    show_default=True,
    help="Time for all of it; what it does not suffice for is named as not run.",
)
@common_options
def cli(out: Path, quick: bool, only: str, minutes: float) -> None:
    """Check engines and precisions on this machine; write OUT/gpu_check.json and .txt.

    The shipped detectors are built in every format and precision, verified, scored with and timed;
    with a GPU and PyTorch, random detectors of real size are timed against it. Whatever is
    missing, crashes or hangs is a row with the reason. Nothing is downloaded, and nothing is
    written outside OUT and a temporary folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rsna-gpu-check-") as folder:
        settings = Settings(Path(folder), quick)
        check = Check(out, settings, limit_s=MINUTE_S * minutes, only=only)
        check.run(first_jobs(), _say)
        if has_gpu(check.rows):
            check.run(gpu_jobs(settings, check.rows), _say)
        check.add(missing_rows(check.rows))
    click.echo(as_text(check.report()), nl=False)


def _say(line: str) -> None:
    click.echo(line, err=True)


main = entry_point(cli, "gpu_check")

if __name__ == "__main__":
    main()
