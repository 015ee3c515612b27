"""The results of ``rsna-bench pipeline`` as blocks of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import numpy as np

from rsna_lumbar.benchmarks.harness.fresh_runs import METHOD, FreshRun
from rsna_lumbar.benchmarks.harness.machine import machine_conditions
from rsna_lumbar.benchmarks.harness.report import Block, Column, Results, RowValues
from rsna_lumbar.benchmarks.harness.timing import Samples, Summary, ratios, summary
from rsna_lumbar.benchmarks.pipeline.bench import PipelineFound, PipelineOptions

IN_ITS_RUN = " (in its own run)"
METHOD_WORK = ("decode", "predict", "rows")  # grows with the number of studies
# Of a longer run over a shorter one: time per study, and peak memory.
MOST_TIMES, MOST_MEMORY = 1.05, 1.1
MEDIAN, TWO_DIGITS = "{.median:.2f}", "{:.2f}"
RANGE = "{0.median:.2f} ({0.low:.2f}-{0.high:.2f})"
RUN_COLUMNS = (
    Column("contender", "fresh process", left=True),
    Column("wall_s", "wall s (range)", RANGE),
    Column("wall_s", "p95", "{.p95:.2f}"),
    Column("wall_s", "p99", "{.p99:.2f}"),
    Column("s_per_study", "s/study", TWO_DIGITS),
    Column("ratio", "speed-up (range)", "{0.median:.2f}x ({0.low:.2f}-{0.high:.2f})"),
    Column("first_row_s", "first row s", TWO_DIGITS),
    Column("cpu_s", "CPU s", "{:.1f}"),
    Column("peak_mb", "peak MB", "{:.0f}"),
    Column("of_limit", "of limit", TWO_DIGITS),
)
STAGE_COLUMNS = (
    Column("contender", "seconds", left=True),
    Column("walk_s", "walk", "{.median:.3f}"),
    Column("decode_s", "decode", MEDIAN),
    Column("preprocess_s", "preprocess", MEDIAN),
    Column("infer_s", "infer", MEDIAN),
    Column("write_s", "write", "{.median:.3f}"),
    Column("decode_only_s", "decode only", MEDIAN),
    Column("infer_only_s", "infer only", MEDIAN),
    Column("whole_s", "whole", MEDIAN),
    Column("share_of_limit", "of limit (range)", RANGE),
    Column("infer_ms_per_slice", "infer ms/slice", TWO_DIGITS),
)
AGREEMENT_COLUMNS = (
    Column("contender", "rows", left=True),
    Column("largest_difference", "max diff", "{:.1e}"),
    Column("mean_difference", "mean diff", "{:.1e}"),
    Column("changed_rows", "other grade"),
    Column("rows", "of"),
)
STRESS_COLUMNS = (
    Column("contender", "longer over shorter", left=True),
    Column("time_ratio", "time", "{:.2f}x"),
    Column("most_time", "at most", "{:.2f}x"),
    Column("memory_ratio", "peak memory", "{:.2f}x"),
    Column("most_memory", "at most", "{:.2f}x"),
    Column("met", "met"),
)


def make_results(options: PipelineOptions, found: PipelineFound, command: str) -> Results:
    """Everything that was measured so far."""
    blocks = [
        Block(f"{studies(n)}, each run a fresh process", RUN_COLUMNS, (*_run_rows(n, found),))
        for n in found.runs
    ]
    if found.stages:
        title = f"{studies(found.stage_studies)}, stages apart in one process"
        blocks.append(Block(title, STAGE_COLUMNS, (*_stage_rows(found),)))
    if found.agreements:
        title = f"Rows of {studies(found.agreement_studies)} against PyTorch"
        rows = [{"contender": name, **asdict(one)} for name, one in found.agreements.items()]
        blocks.append(Block(title, AGREEMENT_COLUMNS, (*rows,)))
    if options.stress_studies in found.runs:
        title = f"{options.stress_studies} studies over {max(options.studies)}"
        blocks.append(Block(title, STRESS_COLUMNS, (*_stress_rows(options, found),)))
    batches = [f"{variant} {one.batch_size}" for variant, one in found.stages.items()]
    return Results(
        part="pipeline",
        command=command,
        conditions={
            "studies": f"phantom, {options.size} slices each, RLE Lossless, files of "
            f"{found.compressed:.2f} of their raw size, {options.distinct} drawn and repeated; "
            "page cache warm",
            "model": options.model,
            "batch size": ", ".join(batches),
            "threads": options.threads,
            "decoding processes": options.workers or "as rsna-run chooses",
            "rounds": options.rounds,
            "stage studies": found.stage_studies,
            **machine_conditions(),
        },
        blocks=tuple(blocks),
        notes=(*_notes(found),),
    )


def _run_rows(count: int, found: PipelineFound) -> Iterator[RowValues]:
    method = found.runs[count].get(METHOD)
    for contender, runs in found.runs[count].items():
        walls = _walls(runs)
        wall_s = float(np.median(walls))
        stages = None if contender == METHOD else found.stages.get(contender)  # type: ignore[arg-type]
        yield {
            "contender": str(contender),
            "studies": count,
            "rounds": len(runs),
            "wall_s": summary(walls),
            "s_per_study": wall_s / count,
            "ratio": ratios(_walls(method), walls) if method else None,
            "first_row_s": _median(one.first_row_s for one in runs),
            "cpu_s": _median(one.measured.cpu_s for one in runs),
            "peak_mb": _median(one.measured.peak_mb for one in runs),
            "of_limit": wall_s / stages.limit_s
            if stages and count == found.stage_studies
            else None,
        }


def _stage_rows(found: PipelineFound) -> Iterator[RowValues]:
    method = found.runs[found.stage_studies].get(METHOD)
    if method:
        yield {
            "contender": f"{METHOD}{IN_ITS_RUN}",
            "walk_s": None,
            "start_s": _of_stages(method, "import", "load"),
            "decode_s": _of_stages(method, "decode"),
            "infer_s": _of_stages(method, "predict"),
            "write_s": _of_stages(method, "rows"),
            "whole_s": _of_stages(method, *METHOD_WORK),
        }
    for variant, stages in found.stages.items():
        fields = {name: getattr(stages, name) for name in stages.__slots__}
        yield {"contender": str(variant), **fields}


def _of_stages(runs: Sequence[FreshRun], *stages: str) -> Summary:
    return summary(np.array([sum(one.stages_s[stage] for stage in stages) for one in runs]))


def _stress_rows(options: PipelineOptions, found: PipelineFound) -> Iterator[RowValues]:
    many, few = options.stress_studies or 0, max(options.studies)
    for contender, runs in found.runs[many].items():
        shorter = found.runs[few][contender]
        time_ratio = float(np.median(_walls(runs)) / np.median(_walls(shorter)))
        peak, before = (_median(one.measured.peak_mb for one in r) for r in (runs, shorter))
        memory_ratio = peak / before if peak and before else None
        most_time = MOST_TIMES * many / few
        is_small = memory_ratio is not None and memory_ratio <= MOST_MEMORY
        yield {
            "contender": str(contender),
            "time_ratio": time_ratio,
            "most_time": most_time,
            "memory_ratio": memory_ratio,
            "most_memory": MOST_MEMORY,
            "met": time_ratio <= most_time and is_small,
        }


def _walls(runs: Sequence[FreshRun]) -> Samples:
    return np.array([one.measured.wall_s for one in runs])


def _median(values: Iterable[float | None]) -> float | None:
    """Of the known values; None without any."""
    known = [one for one in values if one is not None]
    return float(np.median(known)) if known else None


def _notes(found: PipelineFound) -> Iterator[str]:
    workers = sorted({one.decode_only_workers for one in found.stages.values()})
    yield "fresh process: with its interpreter, imports and loading of models; contenders in turns"
    yield (
        f"{METHOD}: pydicom decode, min-max, YOLO.predict per series, pandas; it writes all rows "
        "at the end"
    )
    yield "speed-up: the method's wall time over this one's in the same round; range of the rounds"
    yield "first row: from the start of the process until its progress bar counts a scored study"
    yield "peak MB: of the whole process tree; pages that processes share count once"
    yield "of limit: wall time over the larger of decode only and infer only (aim: at most 1.15)"
    yield (
        f"decode only: the fastest number of processes, here {' and '.join(map(str, workers))} "
        "(0: in process); decode and preprocess are of one core"
    )
    yield (
        "max diff: of a probability, from the PyTorch forward pass on the squares of our detectors"
    )
    if found.boxes is not None:
        yield (
            f"ultralytics predict finds {found.boxes:.0f} boxes per slice with these weights (at "
            "most 300); the method's time includes sorting them"
        )
    ran = [n for n, runs in found.runs.items() if METHOD in runs]
    if ran and max(found.runs) > max(ran):
        yield (
            f"over {studies(max(ran))} the method was not run: compare ours with its start, and "
            f"with its work on {max(ran)} in proportion"
        )


def studies(count: int) -> str:
    """A number of studies, for titles."""
    return "1 study" if count == 1 else f"{count} studies"
