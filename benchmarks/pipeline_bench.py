"""``rsna-bench pipeline``: DICOM to submission, ours against the method's own way.

Fresh processes in turns for every number of studies; then, in this process, each stage alone and
the two limits; then how far the rows are from the PyTorch forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.benchmarks.bench_bundle import BenchBundle, make_bench_bundle
from rsna_lumbar.benchmarks.fresh_runs import METHOD, Contender, FreshRun, FreshRuns
from rsna_lumbar.benchmarks.median_study import (
    FIRST_ID,
    MEDIAN,
    StudySize,
    compressed_share,
    draw_studies,
    repeat_studies,
)
from rsna_lumbar.benchmarks.pipeline_agreement import (
    Agreement,
    agreement,
    read_submission,
    reference_rows,
)
from rsna_lumbar.benchmarks.pipeline_stages import Stages, time_stages
from rsna_lumbar.benchmarks.variants import Variant
from rsna_lumbar.runtime.third_party import prepare_third_party

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


@dataclass(frozen=True, slots=True)
class PipelineFound:
    """Everything that was measured."""

    runs: Mapping[int, Mapping[Contender, Sequence[FreshRun]]]  # by number of studies
    stages: Mapping[Variant, Stages]  # of STAGE_STUDIES studies
    stage_studies: int
    agreements: Mapping[str, Agreement]
    agreement_studies: int
    compressed: float  # bytes of the files over those of raw pixels


def run_pipeline(
    options: PipelineOptions, work: Path, *, report: Callable[[str], object]
) -> PipelineFound:
    """Measure everything.

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
    bundle = _bundle(options, work, drawn)
    fresh = FreshRuns(
        bundle, work, size_px=options.size_px, threads=options.threads, workers=options.workers
    )
    _warm_up(options, fresh, roots[min(roots)], report)
    runs = {count: _in_turns(options, fresh, count, roots[count], report) for count in roots}
    stage_studies = max(options.studies)
    stages = {
        variant: _stages(options, bundle, roots[stage_studies], variant, work, report)
        for variant in dict.fromkeys(one.of_all_slices for one in options.variants)
    }
    report("comparing rows")
    agreements, compared = _agreements(options, fresh, bundle, roots)
    return PipelineFound(
        runs, stages, stage_studies, agreements, compared, compressed_share(drawn, options.size)
    )


def _roots(options: PipelineOptions, work: Path, drawn: Path) -> dict[int, Path]:
    counts = [*options.studies, *([options.stress_studies] if options.stress_studies else [])]
    return {
        count: repeat_studies(
            drawn, work / f"studies-{options.distinct}-{count}", options.size, count=count
        )
        for count in sorted(set(counts))
    }


def _bundle(options: PipelineOptions, work: Path, drawn: Path) -> BenchBundle:
    prepare_third_party("bench")
    return make_bench_bundle(
        work,
        options.variants,
        scale=options.scale,
        size_px=options.size_px,
        calibration=drawn,
        verification=drawn,
    )


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
    """Every contender once a round; each round begins with another one."""
    contenders = _contenders(options, count)
    runs: dict[Contender, list[FreshRun]] = {one: [] for one in contenders}
    rounds = options.rounds if count in options.studies else 1
    for number in range(rounds):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            report(f"studies: {count}, round {number + 1} of {rounds}: {contender}")
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


def _agreements(
    options: PipelineOptions, fresh: FreshRuns, bundle: BenchBundle, roots: Mapping[int, Path]
) -> tuple[dict[str, Agreement], int]:
    """Of the rows that the fresh processes wrote, for the first studies of a root."""
    run_by_all = [n for n in options.studies if METHOD in _contenders(options, n)]
    count = max(run_by_all or options.studies)
    compared = min(AGREEMENT_STUDIES, options.distinct, count)
    ids = tuple(str(FIRST_ID + index) for index in range(compared))
    reference = reference_rows(bundle, roots[count], ids)
    found = {PREDICT: agreement(reference.predict, reference.forward)}
    for contender in _contenders(options, count):
        rows = read_submission(fresh.submission(contender, roots[count]))
        found[str(contender)] = agreement(rows, reference.forward)
    return found, compared
