"""The results of ``rsna-bench start`` as blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rsna_lumbar.benchmarks.harness.fresh_runs import FreshOptions
from rsna_lumbar.benchmarks.harness.machine import machine_conditions
from rsna_lumbar.benchmarks.harness.process_tree import INTERVAL_S, Measured
from rsna_lumbar.benchmarks.harness.report import Block, Column, Results, RowValues
from rsna_lumbar.benchmarks.harness.timing import summary
from rsna_lumbar.benchmarks.pipeline.start_bench import StartFound

MOST_OVERHEAD_S = 1.5
COLUMNS = (
    Column("contender", "fresh process", left=True),
    Column("wall_s", "wall s", "{.median:.2f}"),
    Column("wall_s", "p95", "{.p95:.2f}"),
    Column("wall_s", "p99", "{.p99:.2f}"),
    Column("cpu_s", "CPU s", "{.median:.2f}"),
    Column("peak_mb", "peak MB", "{:.0f}"),
    Column("inference_s", "inference s", "{.median:.2f}"),
    Column("overhead_s", "overhead s (range)", "{0.median:.2f} ({0.low:.2f}-{0.high:.2f})"),
)


def make_results(options: FreshOptions, found: StartFound, command: str) -> Results:
    """Everything that was measured."""
    bare = tuple(_row(name, runs) for name, runs in found.bare.items())
    study = tuple(_study_rows(found))
    return Results(
        part="start",
        command=command,
        conditions={
            "study": f"phantom, {options.size} slices, RLE Lossless",
            "model": options.model,
            "batch size": "the runtime's own: 8 on a CPU",
            "threads": options.threads,
            "rounds": options.rounds,
            **machine_conditions(),
        },
        blocks=(Block("Start", COLUMNS, bare), Block("One study, cold", COLUMNS, study)),
        notes=(
            "fresh processes in turns; files and libraries are in the page cache",
            "inference: the same study scored from decoded slices in a process with its models "
            "loaded, in the same rounds",
            f"overhead: wall minus inference, by round (aim: at most {MOST_OVERHEAD_S} s)",
            "compiled models: OpenVINO's, which the runtime keeps between runs",
            f"peak MB: sampled every {1e3 * INTERVAL_S:.0f} ms; - if there were few samples",
        ),
    )


def _study_rows(found: StartFound) -> Iterator[RowValues]:
    for one, runs in found.studies.items():
        inference = found.inference_s[one.variant]
        overhead = summary(np.array([run.wall_s for run in runs]) - inference)
        yield {
            **_row(str(one), runs),
            "inference_s": summary(inference),
            "overhead_s": overhead,
            "met": overhead.median <= MOST_OVERHEAD_S,
        }


def _row(name: str, runs: Sequence[Measured]) -> dict[str, object]:
    return {
        "contender": name,
        "wall_s": summary(np.array([run.wall_s for run in runs])),
        "cpu_s": summary(np.array([run.cpu_s for run in runs])),
        "peak_mb": max(run.peak_mb or 0 for run in runs) or None,
    }
