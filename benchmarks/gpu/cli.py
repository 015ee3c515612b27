"""``benchmarks/gpu_check OUT``: try all formats, precisions and parts that need a GPU."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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
from rsna_lumbar.benchmarks.gpu.rows import Row
from rsna_lumbar.benchmarks.harness.command_line import command_line
from rsna_lumbar.benchmarks.harness.machine import machine_conditions
from rsna_lumbar.benchmarks.harness.report import Block, Column, Results, as_json, as_table
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.entry_point import common_options, entry_point

STEM = "gpu_check"
ALWAYS = (FACTS, DRAWN)  # other jobs depend on them


@dataclass(slots=True)
class Check:
    """One run: jobs within a time, and the rows so far, on disk after every job."""

    out: Path
    settings: Settings
    command: str
    limit_s: float
    only: str
    rows: list[Row] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))

    def run(self, jobs: Iterable[Job]) -> None:
        """Run the jobs one after the other, so that none disturbs the timing of another."""
        for job in jobs:
            if job.part in ALWAYS or self.only in f"{job.part}: {job.name}":
                click.echo(f"{job.part}: {job.name}", err=True)
                left_s = self.limit_s - (time.monotonic() - self.start)
                self.add(run_job(job, self.settings, left_s=left_s))

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows and write both files."""
        self.rows += [row.cleaned() for row in rows]
        results = self.results()
        write_atomically(self.out / f"{STEM}.json", as_json(results))
        write_atomically(self.out / f"{STEM}.txt", as_table(results) + "\n")

    def results(self) -> Results:
        """A block for each part, in the order of the rows."""
        parts = dict.fromkeys(row.part for row in self.rows)
        mode = "quick" if self.settings.quick else "full"
        return Results(
            part="gpu",
            command=self.command,
            conditions={
                **machine_conditions(),
                "rounds": f"{mode}: medians of {self.settings.rounds} rounds; each part in a "
                "separate process, one after the other",
                "date": self.date,
            },
            blocks=tuple(
                part_block(part, [row for row in self.rows if row.part == part]) for part in parts
            ),
            notes=tuple(f"{part}: {NOTES[part]}" for part in parts if part in NOTES),
        )


def part_block(part: str, rows: Sequence[Row]) -> Block:
    """Name, figures and status; the status is last, since it may be long."""
    headings = ("", *dict.fromkeys(name for row in rows for name in row.figures), "status")
    keys = ("name", *headings[1:])
    return Block(
        part,
        tuple(Column(*names, left=True) for names in zip(keys, headings, strict=True)),
        tuple({"name": row.name, **row.figures, "status": row.status} for row in rows),
    )


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--quick", is_flag=True, help="Fewer rounds, studies, sizes and batch sizes.")
@click.option("--only", default="", metavar="TEXT", help="Only the jobs whose name contains TEXT.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=9.5,
    show_default=True,
    help="Time for everything; jobs that do not fit into it are named as not run.",
)
@common_options
@click.pass_context
def cli(context: click.Context, out: Path, quick: bool, only: str, minutes: float) -> None:
    """Check engines and precisions on this machine; write OUT/gpu_check.json and .txt.

    The shipped detectors are built in every format and precision, verified, used for scoring and
    timed; with a GPU and PyTorch, random detectors of real size are timed against it. If something
    is missing, crashes or hangs, a row says so. Nothing is downloaded, and nothing is written
    outside OUT and a temporary folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rsna-gpu-check-") as folder:
        settings = Settings(Path(folder), quick)
        check = Check(out, settings, command_line(context), 60 * minutes, only)
        check.run(first_jobs())
        if has_gpu(check.rows):
            check.run(gpu_jobs(settings, check.rows))
        check.add(missing_rows(check.rows))
    click.echo(as_table(check.results()))


main = entry_point(cli, "benchmarks/gpu_check")

if __name__ == "__main__":
    main()
