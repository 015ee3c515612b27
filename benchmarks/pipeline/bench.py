"""``rsna-bench pipeline``: DICOM to submission, ours against the method's own way.

Fresh processes in turns for every number of studies; then, in this process, each stage alone and
the two limits; then how far the rows are from the PyTorch forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rsna_lumbar.benchmarks.harness.bench_bundle import BenchBundle, make_bench_bundle
from rsna_lumbar.benchmarks.harness.fresh_runs import METHOD, Contender, FreshRun, FreshRuns
from rsna_lumbar.benchmarks.harness.median_study import (
    FIRST_ID,
    MEDIAN,
    StudySize,
    compressed_share,
    draw_studies,
    repeat_studies,
)
from rsna_lumbar.benchmarks.harness.timing import orders
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.benchmarks.pipeline.agreement import (
    Agreement,
    agreement,
    read_submission,
    reference_rows,
)
from rsna_lumbar.benchmarks.pipeline.stages import Stages, time_stages

PREDICT = "ultralytics predict, same squares"
AGREEMENT_STUDIES = 2  # each takes PyTorch ten seconds
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions:
    """What is timed, and how."""

    variants: tuple[Variant, ...]
    studies: tuple[int, ...]  # numbers of them
    method_studies: int  # most that the method is run on; 0 leaves it out
    stress_studies: int | None  # ours once over so many more
    scale: str
    size_px: int
    rounds: int
    threads: int
    workers: int | None
    distinct: int = 4  # studies that are drawn
    size: StudySize = MEDIAN


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFound:
    """What was measured; empty where it was not yet."""

    stage_studies: int
    compressed: float  # bytes of the files over those of raw pixels
    runs: Mapping[int, Mapping[Contender, Sequence[FreshRun]]] = field(default_factory=dict)
    # Above by number of studies; stages are of ``stage_studies``.
    stages: Mapping[Variant, Stages] = field(default_factory=dict)
    agreements: Mapping[str, Agreement] = field(default_factory=dict)
    agreement_studies: int = 0
    boxes: float | None = None  # of ``predict``, a slice


def run_pipeline(
    options: PipelineOptions, work: Path, *, report: Callable[[str], object]
) -> Iterator[PipelineFound]:
    """Measure block by block; all that was found so far after each, everything at the end.

    Args:
        options: what and how.
        work: folder for studies, checkpoints, bundle, caches and submissions; kept as it is left.
        report: takes a line of progress.
    """
    drawn = work / f"drawn-{options.distinct}"
    report("drawing studies")
    draw_studies(drawn, options.size, count=options.distinct, seed=SEED)
    roots = _roots(options, work, drawn)
    report("building the bundle")
    bundle = make_bench_bundle(
        work, options.variants, scale=options.scale, size_px=options.size_px, studies=drawn
    )
    fresh = FreshRuns(
        bundle, work, size_px=options.size_px, threads=options.threads, workers=options.workers
    )
    _warm_up(options, fresh, roots[min(roots)], report)
    found = PipelineFound(
        stage_studies=max(options.studies), compressed=compressed_share(drawn, options.size)
    )
    for count, data in roots.items():
        runs = _in_turns(options, fresh, count, data, report)
        found = replace(found, runs={**found.runs, count: runs})
        yield found
    for variant in dict.fromkeys(one.of_all_slices for one in options.variants):
        stages = _stages(options, bundle, roots[found.stage_studies], variant, work, report)
        found = replace(found, stages={**found.stages, variant: stages})
        yield found
    report("comparing rows")
    yield _compared(options, fresh, bundle, roots, found)


def _roots(options: PipelineOptions, work: Path, drawn: Path) -> dict[int, Path]:
    counts = [*options.studies, *([options.stress_studies] if options.stress_studies else [])]
    return {
        count: repeat_studies(
            drawn, work / f"studies-{options.distinct}-{count}", options.size, count=count
        )
        for count in sorted(set(counts))
    }


def _contenders(options: PipelineOptions, count: int) -> list[Contender]:
    """Who runs over so many studies."""
    method: list[Contender] = [METHOD] if count <= options.method_studies else []
    return [*method, *options.variants]


def _warm_up(
    options: PipelineOptions, fresh: FreshRuns, data: Path, report: Callable[[str], object]
) -> None:
    """Files, libraries and compiled models into their caches."""
    for contender in _contenders(options, min(options.studies)):
        report(f"warming up: {contender}")
        fresh.run(contender, data)


def _in_turns(
    options: PipelineOptions,
    fresh: FreshRuns,
    count: int,
    data: Path,
    report: Callable[[str], object],
) -> dict[Contender, list[FreshRun]]:
    """Every contender once a round, in another order in each."""
    contenders = _contenders(options, count)
    runs: dict[Contender, list[FreshRun]] = {one: [] for one in contenders}
    rounds = options.rounds if count in options.studies else 1
    for number, order in enumerate(orders(contenders, rounds), start=1):
        for contender in order:
            report(f"studies: {count}, round {number} of {rounds}: {contender}")
            runs[contender].append(fresh.run(contender, data))
    return runs


def _stages(
    options: PipelineOptions,
    bundle: BenchBundle,
    data: Path,
    variant: Variant,
    work: Path,
    report: Callable[[str], object],
) -> Stages:
    report(f"stages: {variant}")
    return time_stages(
        bundle.folder,
        data,
        variant,
        rounds=options.rounds,
        threads=options.threads,
        workers=options.workers,
        scratch=work / "rows.csv",
    )


def _compared(
    options: PipelineOptions,
    fresh: FreshRuns,
    bundle: BenchBundle,
    roots: Mapping[int, Path],
    found: PipelineFound,
) -> PipelineFound:
    """With the rows that the fresh processes wrote compared, for the first studies of a root."""
    run_by_all = [n for n in options.studies if METHOD in _contenders(options, n)]
    count = max(run_by_all or options.studies)
    compared = min(AGREEMENT_STUDIES, options.distinct, count)
    ids = tuple(str(FIRST_ID + index) for index in range(compared))
    reference = reference_rows(bundle, roots[count], ids)
    agreements = {PREDICT: agreement(reference.predict, reference.forward)}
    for contender in _contenders(options, count):
        rows = read_submission(fresh.submission(contender, roots[count]))
        agreements[str(contender)] = agreement(rows, reference.forward)
    return replace(found, agreements=agreements, agreement_studies=compared, boxes=reference.boxes)
