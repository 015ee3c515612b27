"""Times a change: ``rsna-run`` of two builds over the same studies, in turns.

    pip install --no-deps --target before .      # in a checkout of one build
    pip install --no-deps --target after .       # in a checkout of the other
    benchmarks/before_after before after [--variants ...] [--studies N] [--rounds N] [--work DIR]

Prints wall time and CPU time of both, whole and by stages, their ratio by round, and whether the
outputs are the same bytes. Both use the dependencies of this environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
from before_after_stages import Build, stages_in_turns
from stage_clock import Task

from rsna_lumbar.benchmarks.commands.shared import FILE, bundle_options, work_folder
from rsna_lumbar.benchmarks.harness.command_line import command_line
from rsna_lumbar.benchmarks.harness.fresh_runs import FreshOptions, FreshRuns, prepare
from rsna_lumbar.benchmarks.harness.machine import machine_conditions
from rsna_lumbar.benchmarks.harness.median_study import TABLE, repeat_studies
from rsna_lumbar.benchmarks.harness.process_tree import Measured
from rsna_lumbar.benchmarks.harness.report import (
    Block,
    Column,
    Results,
    RowValues,
    as_json,
    as_table,
)
from rsna_lumbar.benchmarks.harness.timing import Samples, Summary, in_turns, ratios, summary
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.entry_point import common_options, entry_point

BEFORE, AFTER = "before", "after"
RATIO = "{0.median:.3f} ({0.low:.3f}-{0.high:.3f})"
COLUMNS = (
    Column("contender", "after over before", left=True),
    Column("cpu_before_s", "CPU s before", "{.median:.3g}"),
    Column("cpu_after_s", "after", "{.median:.3g}"),
    Column("cpu_ratio", "ratio (range)", RATIO),
    Column("wall_before_s", "wall s before", "{.median:.3g}"),
    Column("wall_after_s", "after", "{.median:.3g}"),
    Column("wall_ratio", "ratio (range)", RATIO),
    Column("same_bytes", "same bytes"),
)
NOTES = (
    "ratio: after over before, by round; CPU time of the whole tree of processes",
    "stages: each alone in a process that has its input, medians of repetitions; walk is the same "
    "studies with a table of series and without; write is rsna-run with everything else done "
    "before: options, rows, evidence, manifests and, if the build has one, the journal; only whole "
    "runs have decoding processes, imports and the opening of models",
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
    options = FreshOptions(
        variants=variants,
        scale=scale,
        size_px=size_px,
        rounds=rounds,
        threads=threads or usable_cores(),
    )
    whole, stages = [], []
    with work_folder(work) as folder:
        drawn, bundle = prepare(options, folder, lambda _: None)
        root = folder / f"studies-{options.distinct}-{studies}"
        data = repeat_studies(drawn, root, count=studies)
        bare = repeat_studies(drawn, root.with_name(f"{root.name}-no-table"), count=studies)
        (bare / TABLE).unlink()  # headers alone tell the kinds of series
        builds = {BEFORE: Build(before, folder / BEFORE), AFTER: Build(after, folder / AFTER)}
        runs = {}
        for name, build in builds.items():
            build.scratch.mkdir(exist_ok=True)
            runs[name] = FreshRuns(options, bundle, build.scratch)
            runs[name].environment["PYTHONPATH"] = str(build.package.resolve())
        for variant in variants:
            whole.append(_whole(runs, variant, data, rounds))
            task = Task(
                data=str(data),
                without_table=str(bare),
                bundle=str(bundle.folder),
                backend=variant.backend,
                precision=variant.precision,
                slices=variant.slices,
                threads=options.threads,
            )
            title = f"Stages of {variant}, each alone, in fresh processes in turns"
            stages.append(Block(title, COLUMNS, _by_stage(builds, task, rounds)))
    results = Results(
        part="before_after",
        command=command_line(context),
        conditions={
            "studies": f"{studies} phantom studies, {options.size} slices, RLE Lossless",
            "model": options.model,
            "threads": options.threads,
            "rounds": rounds,
            **machine_conditions(),
        },
        blocks=(Block("rsna-run, fresh processes in turns", COLUMNS, tuple(whole)), *stages),
        notes=NOTES,
    )
    if json_path:
        write_atomically(json_path, as_json(results))
    click.echo(as_table(results))


def _whole(builds: Mapping[str, FreshRuns], variant: Variant, data: Path, rounds: int) -> RowValues:
    """The row of rsna-run."""
    calls = {name: partial(one.run, variant, data) for name, one in builds.items()}
    in_turns(calls, rounds=1)  # warms up
    found = in_turns(calls, rounds=rounds)
    runs = {name: [one.measured for one in some] for name, some in found.items()}
    contents = {one.submission(variant, data).read_bytes() for one in builds.values()}
    return {"contender": str(variant), **_row(runs), "same_bytes": len(contents) == 1}


def _by_stage(builds: Mapping[str, Build], task: Task, rounds: int) -> tuple[RowValues, ...]:
    return tuple(
        {"contender": stage.name, **_row(stage.runs), "same_bytes": stage.same}
        for stage in stages_in_turns(builds, task, rounds=rounds)
    )


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


main = entry_point(cli, "benchmarks/before_after")

if __name__ == "__main__":
    main()
