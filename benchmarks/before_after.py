"""What a change costs: ``rsna-run`` of two builds over the same studies, in turns.

    pip install --no-deps --target before .      # in a checkout of the one
    pip install --no-deps --target after .       # in a checkout of the other
    benchmarks/before_after before after [--variants ...] [--studies N] [--rounds N] [--work DIR]

Prints wall time, CPU time and peak memory of both, their ratio by round, and whether the
submissions are the same bytes. Dependencies are those of the environment that it runs in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

from rsna_lumbar.benchmarks.bench_bundle import make_bench_bundle
from rsna_lumbar.benchmarks.commands.shared import (
    FILE,
    bundle_options,
    command_line,
    work_folder,
)
from rsna_lumbar.benchmarks.fresh_runs import FreshRun, FreshRuns
from rsna_lumbar.benchmarks.machine import describe_machine, versions
from rsna_lumbar.benchmarks.median_study import MEDIAN, draw_studies, repeat_studies
from rsna_lumbar.benchmarks.report import Column, Results, as_table, write_outputs
from rsna_lumbar.benchmarks.statistics import Samples, Summary, orders, ratios, summary
from rsna_lumbar.benchmarks.variants import Variant
from rsna_lumbar.runtime.command_line import common_options, entry_point
from rsna_lumbar.runtime.cores import usable_cores

BEFORE, AFTER = "before", "after"
DISTINCT = 4


def _range(value: Summary) -> str:
    return f"{value.median:.3f} ({value.low:.3f}-{value.high:.3f})"


def _median(value: Summary) -> str:
    return f"{value.median:.2f}"


COLUMNS = (
    Column("contender", "after over before", str, left=True),
    Column("cpu_before_s", "CPU s before", _median),
    Column("cpu_after_s", "after", _median),
    Column("cpu_ratio", "ratio (range)", _range),
    Column("wall_before_s", "wall s before", _median),
    Column("wall_after_s", "after", _median),
    Column("wall_ratio", "ratio (range)", _range),
    Column("same_bytes", "same bytes", lambda value: "yes" if value else "no"),
)
Runs = Mapping[str, list[FreshRun]]  # by build


@click.command("before_after")
@click.argument("before", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("after", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--studies", type=click.IntRange(1), default=20, show_default=True)
@bundle_options
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="All usable cores if not set.")
@click.option("--json", "json_path", type=FILE, help="Also write everything as JSON.")
@common_options
@click.pass_context
def cli(
    context: click.Context,
    before: Path,
    after: Path,
    studies: int,
    variants: tuple[Variant, ...],
    scale: str,
    size_px: int,
    work: Path | None,
    rounds: int,
    threads: int | None,
    json_path: Path | None,
) -> None:
    """Time rsna-run of the build in BEFORE and of the one in AFTER."""
    threads = threads or usable_cores()
    with work_folder(work) as folder:
        drawn = folder / f"drawn-{DISTINCT}"
        draw_studies(drawn, MEDIAN, count=DISTINCT)
        data = repeat_studies(
            drawn, folder / f"studies-{DISTINCT}-{studies}", MEDIAN, count=studies
        )
        bundle = make_bench_bundle(folder, variants, scale=scale, size_px=size_px, studies=drawn)
        builds = {}
        for name, package in ((BEFORE, before), (AFTER, after)):
            (folder / name).mkdir(exist_ok=True)
            builds[name] = FreshRuns(
                bundle, folder / name, size_px=size_px, threads=threads, workers=None
            )
            builds[name].environment["PYTHONPATH"] = str(package.resolve())
        rows = []
        for variant in variants:
            runs = _in_turns(builds, variant, data, rounds)
            contents = {one.submission(variant, data).read_bytes() for one in builds.values()}
            rows.append({"contender": str(variant), **_row(runs), "same_bytes": len(contents) == 1})
    results = Results(
        part="before_after",
        command=command_line(context).replace("rsna-bench ", "benchmarks/", 1),
        conditions={
            "studies": f"{studies} phantom studies, {MEDIAN} slices, RLE Lossless",
            "model": f"three YOLOv8{scale} of random weights, {size_px} px",
            "threads": threads,
            "rounds": rounds,
            "machine": describe_machine(),
            "versions": versions(),
        },
        columns=COLUMNS,
        blocks=(("Fresh processes in turns", tuple(rows)),),
        notes=("ratio: after over before, by round; CPU time of the whole tree of processes",),
    )
    write_outputs(results, json_path=json_path, csv_path=None)
    click.echo(as_table(results))


def _in_turns(
    builds: Mapping[str, FreshRuns], variant: Variant, data: Path, rounds: int
) -> dict[str, list[FreshRun]]:
    """Each build once a round, after a run of each that does not count."""
    for one in builds.values():
        one.run(variant, data)
    runs: dict[str, list[FreshRun]] = {name: [] for name in builds}
    for order in orders(list(builds), rounds):
        for name in order:
            runs[name].append(builds[name].run(variant, data))
    return runs


def _row(runs: Runs) -> dict[str, Summary]:
    cpu, wall = (
        {name: _samples(some, field) for name, some in runs.items()}
        for field in ("cpu_s", "wall_s")
    )
    return {
        "cpu_before_s": summary(cpu[BEFORE]),
        "cpu_after_s": summary(cpu[AFTER]),
        "cpu_ratio": ratios(cpu[AFTER], cpu[BEFORE]),
        "wall_before_s": summary(wall[BEFORE]),
        "wall_after_s": summary(wall[AFTER]),
        "wall_ratio": ratios(wall[AFTER], wall[BEFORE]),
    }


def _samples(runs: list[FreshRun], field: str) -> Samples:
    return np.array([getattr(one.measured, field) for one in runs])


main = entry_point(cli, "before_after")

if __name__ == "__main__":
    main()
