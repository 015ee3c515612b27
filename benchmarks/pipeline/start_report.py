"""What ``rsna-bench start`` found, as rows of a table and of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rsna_lumbar.benchmarks.harness.machine import describe_machine, versions
from rsna_lumbar.benchmarks.harness.process_tree import INTERVAL_S, Measured
from rsna_lumbar.benchmarks.harness.report import Column, Results, RowValues
from rsna_lumbar.benchmarks.harness.timing import Summary, summary
from rsna_lumbar.benchmarks.pipeline.start_bench import StartFound, StartOptions

MOST_OVERHEAD_S = 1.5


def _two(value: float) -> str:
    return f"{value:.2f}"


COLUMNS = (
    Column("contender", "fresh process", str, left=True),
    Column("wall_s", "wall s", lambda value: _two(value.median)),
    Column("wall_s", "p95", lambda value: _two(value.p95)),
    Column("wall_s", "p99", lambda value: _two(value.p99)),
    Column("cpu_s", "CPU s", lambda value: _two(value.median)),
    Column("peak_mb", "peak MB", lambda value: f"{value:.0f}" if value else "-"),
    Column("inference_s", "inference s", lambda value: _two(value.median)),
    Column("overhead_s", "overhead s (range)", lambda value: _range(value)),
)


def _range(value: Summary) -> str:
    return f"{value.median:.2f} ({value.low:.2f}-{value.high:.2f})"


def make_results(options: StartOptions, found: StartFound, command: str) -> Results:
    """All of it; the table has the same columns throughout."""
    bare = tuple(_row(name, runs) for name, runs in found.bare.items())
    return Results(
        part="start",
        command=command,
        conditions={
            "study": f"phantom, {options.size} slices, RLE Lossless",
            "model": f"three YOLOv8{options.scale} of random weights, {options.size_px} px",
            "batch size": "the runtime's own: 8 on a CPU",
            "threads": options.threads,
            "rounds": options.rounds,
            "machine": describe_machine(),
            "versions": versions(),
        },
        columns=COLUMNS,
        blocks=(("Start", bare), ("One study, cold", tuple(_study_rows(found)))),
        notes=(
            "fresh processes in turns; the page cache is warm: files and libraries come from it",
            "inference: the same study scored from decoded slices in a process that has its models "
            "loaded, in the same rounds",
            f"overhead: wall less inference, by round (aim: at most {MOST_OVERHEAD_S} s)",
            "compiled models: OpenVINO's, which the runtime keeps between runs",
            f"peak MB: looked at every {1e3 * INTERVAL_S:.0f} ms; - where that was seldom",
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
