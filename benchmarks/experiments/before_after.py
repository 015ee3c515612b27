"""What a change costs: ``rsna-run`` of two builds over the same studies, in turns.

    pip install --no-deps --target before .      # in a checkout of the one
    pip install --no-deps --target after .       # in a checkout of the other
    benchmarks/before_after before after [--variants ...] [--studies N] [--rounds N] [--work DIR]

Prints wall time and CPU time of both, whole and by stages, their ratio by round, and whether what
comes out is the same bytes. Dependencies are those of the environment that it runs in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from before_after_stages import Build, stages_in_turns
from stage_clock import Task

from rsna_lumbar.benchmarks.commands.shared import (
    FILE,
    bundle_options,
    command_line,
    work_folder,
)
from rsna_lumbar.benchmarks.harness.bench_bundle import BenchBundle, make_bench_bundle
from rsna_lumbar.benchmarks.harness.fresh_runs import FreshRuns
from rsna_lumbar.benchmarks.harness.machine import describe_machine, versions
from rsna_lumbar.benchmarks.harness.median_study import MEDIAN, TABLE, draw_studies, repeat_studies
from rsna_lumbar.benchmarks.harness.process_tree import Measured
from rsna_lumbar.benchmarks.harness.report import (
    Column,
    Results,
    RowValues,
    as_table,
    write_outputs,
)
from rsna_lumbar.benchmarks.harness.timing import Samples, Summary, orders, ratios, summary
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.entry_point import common_options, entry_point

BEFORE, AFTER = "before", "after"
DISTINCT = 4


def _range(value: Summary) -> str:
    return f"{value.median:.3f} ({value.low:.3f}-{value.high:.3f})"


def _median(value: Summary) -> str:
    return f"{value.median:.1f}" if value.median >= 100 else f"{value.median:#.3g}"


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
NOTES = (
    "ratio: after over before, by round; CPU time of the whole tree of processes",
    "stages: each alone in a process that has all that it needs, medians of repetitions; walk is "
    "the same studies with a table of series and without; write is rsna-run with everything else "
    "done before: options, rows, evidence, manifests and, in builds that have one, the journal; "
    "the processes that decode, imports and the opening of models are in whole runs alone",
)
Runs = Mapping[str, Sequence[Measured]]  # by build


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
    """Time rsna-run of the build in BEFORE and of the one in AFTER, whole and by stages."""
    threads = threads or usable_cores()
    whole, stages = [], []
    with work_folder(work) as folder:
        drawn = folder / f"drawn-{DISTINCT}"
        draw_studies(drawn, MEDIAN, count=DISTINCT)
        root = folder / f"studies-{DISTINCT}-{studies}"
        data = repeat_studies(drawn, root, MEDIAN, count=studies)
        bare = _without_table(drawn, root.with_name(f"{root.name}-no-table"), studies)
        bundle = make_bench_bundle(folder, variants, scale=scale, size_px=size_px, studies=drawn)
        builds = {BEFORE: Build(before, folder / BEFORE), AFTER: Build(after, folder / AFTER)}
        runs = {
            name: _fresh_runs(build, bundle, size_px=size_px, threads=threads)
            for name, build in builds.items()
        }
        for variant in variants:
            whole.append(_whole(runs, variant, data, rounds))
            task = Task(
                data=str(data),
                without_table=str(bare),
                bundle=str(bundle.folder),
                backend=variant.backend,
                precision=variant.precision,
                slices=variant.slices,
                threads=threads,
            )
            title = f"Stages of {variant}, each alone, in fresh processes in turns"
            stages.append((title, _by_stage(builds, task, rounds)))
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
        blocks=(("rsna-run, fresh processes in turns", tuple(whole)), *stages),
        notes=NOTES,
    )
    write_outputs(results, json_path=json_path, csv_path=None)
    click.echo(as_table(results))


def _without_table(drawn: Path, folder: Path, count: int) -> Path:
    """The same studies, of whose series headers alone tell the kind."""
    root = repeat_studies(drawn, folder, MEDIAN, count=count)
    (root / TABLE).unlink()
    return root


def _fresh_runs(build: Build, bundle: BenchBundle, *, size_px: int, threads: int) -> FreshRuns:
    build.scratch.mkdir(exist_ok=True)
    runs = FreshRuns(bundle, build.scratch, size_px=size_px, threads=threads, workers=None)
    runs.environment["PYTHONPATH"] = str(build.package.resolve())
    return runs


def _whole(builds: Mapping[str, FreshRuns], variant: Variant, data: Path, rounds: int) -> RowValues:
    """The row of rsna-run."""
    runs = _in_turns(builds, variant, data, rounds)
    contents = {one.submission(variant, data).read_bytes() for one in builds.values()}
    return {"contender": str(variant), **_row(runs), "same_bytes": len(contents) == 1}


def _by_stage(builds: Mapping[str, Build], task: Task, rounds: int) -> tuple[RowValues, ...]:
    return tuple(
        {"contender": stage.name, **_row(stage.runs), "same_bytes": stage.same}
        for stage in stages_in_turns(builds, task, rounds=rounds)
    )


def _in_turns(
    builds: Mapping[str, FreshRuns], variant: Variant, data: Path, rounds: int
) -> dict[str, list[Measured]]:
    """Each build once a round, after a run of each that does not count."""
    for one in builds.values():
        one.run(variant, data)
    runs: dict[str, list[Measured]] = {name: [] for name in builds}
    for order in orders(list(builds), rounds):
        for name in order:
            runs[name].append(builds[name].run(variant, data).measured)
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


def _samples(runs: Sequence[Measured], field: str) -> Samples:
    return np.array([getattr(one, field) for one in runs])


main = entry_point(cli, "before_after")

if __name__ == "__main__":
    main()
