"""What ``rsna-bench pipeline`` found, as rows of tables and of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rsna_lumbar.benchmarks.harness.fresh_runs import METHOD, Contender, FreshRun
from rsna_lumbar.benchmarks.harness.machine import describe_machine, versions
from rsna_lumbar.benchmarks.harness.report import Results, RowValues
from rsna_lumbar.benchmarks.harness.timing import Samples, Summary, ratios, summary
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.benchmarks.pipeline.bench import PipelineFound, PipelineOptions
from rsna_lumbar.benchmarks.pipeline.stages import Stages
from rsna_lumbar.benchmarks.pipeline.table import RUN_COLUMNS

METHOD_WORK = ("decode", "predict", "rows")  # what grows with the number of studies
MOST_TIMES, MOST_MEMORY = 1.05, 1.1  # of a longer run: time a study, and peak, over a shorter one's


def make_results(options: PipelineOptions, found: PipelineFound, command: str) -> Results:
    """Everything in one record; ``columns`` are those of its first blocks, see pipeline_table."""
    blocks = [
        *((f"{studies(n)}, each run a fresh process", _run_rows(n, found)) for n in found.runs)
    ]
    if found.stages:
        title = f"{studies(found.stage_studies)}, stages apart in one process"
        blocks.append((title, _stage_rows(found)))
    if found.agreements:
        title = f"Rows of {studies(found.agreement_studies)} against PyTorch"
        blocks.append((title, _agreement_rows(found)))
    if options.stress_studies in found.runs:
        title = f"{options.stress_studies} studies over {max(options.studies)}"
        blocks.append((title, _stress_rows(options, found)))
    return Results(
        part="pipeline",
        command=command,
        conditions=_conditions(options, found),
        columns=RUN_COLUMNS,
        blocks=tuple((title, tuple(rows)) for title, rows in blocks),
        notes=_notes(options, found),
    )


def _run_rows(count: int, found: PipelineFound) -> Iterator[RowValues]:
    for contender, runs in found.runs[count].items():
        walls = _walls(runs)
        yield {
            "contender": str(contender),
            "studies": count,
            "rounds": len(runs),
            "wall_s": summary(walls),
            "s_per_study": float(np.median(walls)) / count,
            **_ratio(contender, count, found),
            "first_row_s": _first_row(runs),
            "cpu_s": float(np.median([one.measured.cpu_s for one in runs])),
            "peak_mb": _peak(runs),
            "of_limit": _of_limit(contender, walls, count, found),
        }


def _ratio(contender: Contender, count: int, found: PipelineFound) -> dict[str, Any]:
    """Against the method in the same round; nothing where it was not run on as many."""
    runs = found.runs[count]
    method = runs.get(METHOD)
    return {"ratio": ratios(_walls(method), _walls(runs[contender])) if method else None}


def _of_limit(
    contender: Contender, walls: Samples, count: int, found: PipelineFound
) -> float | None:
    if not isinstance(contender, Variant) or count != found.stage_studies:
        return None
    stages = found.stages.get(contender)
    return None if stages is None else float(np.median(walls)) / _limit_s(stages)


def _limit_s(stages: Stages) -> float:
    return max(stages.decode_only_s.median, stages.infer_only_s.median)


def _stage_rows(found: PipelineFound) -> Iterator[RowValues]:
    method = found.runs[found.stage_studies].get(METHOD)
    if method:
        yield {
            "contender": f"{METHOD} (in its own run)",
            "walk_s": None,
            "start_s": _of_stage(method, "import", "load"),
            "decode_s": _of_stage(method, "decode"),
            "infer_s": _of_stage(method, "predict"),
            "write_s": _of_stage(method, "rows"),
            "whole_s": _of_stage(method, *METHOD_WORK),
        }
    for variant, stages in found.stages.items():
        fields = {name: getattr(stages, name) for name in stages.__slots__}
        yield {"contender": str(variant), **fields}


def _of_stage(runs: Sequence[FreshRun], *stages: str) -> Summary:
    return summary(np.array([sum(one.stages_s[stage] for stage in stages) for one in runs]))


def _agreement_rows(found: PipelineFound) -> Iterator[RowValues]:
    for name, one in found.agreements.items():
        yield {
            "contender": name,
            "largest_difference": one.largest,
            "mean_difference": one.mean,
            "changed_rows": one.changed,
            "rows": one.rows,
        }


def _stress_rows(options: PipelineOptions, found: PipelineFound) -> Iterator[RowValues]:
    many, few = options.stress_studies or 0, max(options.studies)
    for contender, runs in found.runs[many].items():
        shorter = found.runs[few][contender]
        time_ratio = float(np.median(_walls(runs)) / np.median(_walls(shorter)))
        peak, before = _peak(runs), _peak(shorter)
        memory_ratio = peak / before if peak and before else None
        most_time = MOST_TIMES * many / few
        yield {
            "contender": str(contender),
            "time_ratio": time_ratio,
            "most_time": most_time,
            "memory_ratio": memory_ratio,
            "most_memory": MOST_MEMORY,
            "met": time_ratio <= most_time
            and memory_ratio is not None
            and memory_ratio <= MOST_MEMORY,
        }


def _first_row(runs: Sequence[FreshRun]) -> float | None:
    known = [one.first_row_s for one in runs if one.first_row_s is not None]
    return float(np.median(known)) if known else None


def _walls(runs: Sequence[FreshRun]) -> Samples:
    return np.array([one.measured.wall_s for one in runs])


def _peak(runs: Sequence[FreshRun]) -> float | None:
    """Median over the rounds; None where a run was too short to tell."""
    known = [one.measured.peak_mb for one in runs if one.measured.peak_mb is not None]
    return float(np.median(known)) if known else None


def _conditions(options: PipelineOptions, found: PipelineFound) -> Mapping[str, Any]:
    batches = {str(variant): one.batch_size for variant, one in found.stages.items()}
    return {
        "studies": f"phantom, {options.size} slices each, RLE Lossless, files of "
        f"{found.compressed:.2f} of their raw size, {options.distinct} drawn and repeated; "
        "page cache warm",
        "model": f"three YOLOv8{options.scale} of random weights, {options.size_px} px",
        "batch size": ", ".join(f"{name} {size}" for name, size in batches.items()),
        "threads": options.threads,
        "decoding processes": "as rsna-run chooses" if options.workers is None else options.workers,
        "rounds": options.rounds,
        "stage studies": found.stage_studies,
        "machine": describe_machine(),
        "versions": versions(),
    }


def _notes(options: PipelineOptions, found: PipelineFound) -> tuple[str, ...]:
    decoders = {one.decode_only_workers for one in found.stages.values()}
    notes = [
        "fresh process: interpreter, imports and loading of models are in it; contenders in turns",
        f"{METHOD}: pydicom decode, min-max, YOLO.predict per series, pandas; all its rows are "
        "written at the end",
        "speed-up: the method's wall time over this one's in the same round; range of the rounds",
        "first row: from the start of the process until its progress bar counts a study as scored",
        "peak MB: of the whole process tree, pages that processes share counted once",
        "of limit: wall time over the larger of decode only and infer only (aim: at most 1.15)",
        f"decode only: the fastest number of processes, here {_listed(decoders)} (0: in process); "
        "decode and preprocess are of one core",
        "max diff: of a probability, from the PyTorch forward pass on the squares that ours reads",
    ]
    if found.boxes is not None:
        notes.append(
            f"ultralytics predict finds {found.boxes:.0f} boxes a slice with these weights (of at "
            "most 300), whose sorting is in the method's time"
        )
    ran = [n for n, runs in found.runs.items() if METHOD in runs]
    if ran and max(found.runs) > max(ran):
        notes.append(
            f"over {studies(max(ran))} the method was not run: its start, and its work on "
            f"{max(ran)} in proportion, is what ours is compared with"
        )
    return tuple(notes)


def _listed(numbers: set[int]) -> str:
    return " and ".join(map(str, sorted(numbers)))


def studies(count: int) -> str:
    """As titles name it."""
    return "1 study" if count == 1 else f"{count} studies"
