"""``rsna-bench pipeline``: from DICOM to submission, ours against the method's own way.

Fresh processes in turns for every number of studies; then, in this process, each stage alone and
the two limits; then the differences of the rows from the PyTorch forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rsna_lumbar.benchmarks.harness.fresh_runs import (
    METHOD,
    Contender,
    FreshOptions,
    FreshRun,
    FreshRuns,
    prepare,
)
from rsna_lumbar.benchmarks.harness.median_study import FIRST_ID, compressed_share, repeat_studies
from rsna_lumbar.benchmarks.harness.timing import in_turns
from rsna_lumbar.benchmarks.harness.variants import ALL_SLICES, Variant
from rsna_lumbar.benchmarks.pipeline.agreement import (
    Agreement,
    agreement,
    read_submission,
    reference_rows,
)
from rsna_lumbar.benchmarks.pipeline.stages import Stages, time_stages

PREDICT = "ultralytics predict, same squares"
AGREEMENT_STUDIES = 2  # PyTorch takes ten seconds for each


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions(FreshOptions):
    """What is timed, and how."""

    studies: tuple[int, ...]  # numbers of studies
    method_studies: int  # largest number that the method is run on; 0 leaves it out
    stress_studies: int | None  # a larger number, for one run of ours

    def contenders(self, count: int) -> list[Contender]:
        """Contenders that are run on so many studies."""
        method: list[Contender] = [METHOD] if count <= self.method_studies else []
        return [*method, *self.variants]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFound:
    """The measurements so far."""

    stage_studies: int
    compressed: float  # bytes of the files over those of raw pixels
    runs: Mapping[int, Mapping[Contender, Sequence[FreshRun]]] = field(default_factory=dict)
    # Runs are by number of studies; stages are of ``stage_studies``.
    stages: Mapping[Variant, Stages] = field(default_factory=dict)
    agreements: Mapping[str, Agreement] = field(default_factory=dict)
    agreement_studies: int = 0
    boxes: float | None = None  # of ``predict``, per slice


def run_pipeline(
    options: PipelineOptions, work: Path, *, report: Callable[[str], object]
) -> Iterator[PipelineFound]:
    """Measure block by block; yield all measurements so far after each.

    The folder keeps studies, checkpoints, bundle, caches and submissions.
    """
    drawn, bundle = prepare(options, work, report)
    roots = {}
    for count in sorted({*options.studies, options.stress_studies or max(options.studies)}):
        folder = work / f"studies-{options.distinct}-{count}"
        roots[count] = repeat_studies(drawn, folder, options.size, count=count)
    fresh = FreshRuns(options, bundle, work)
    for contender in options.contenders(min(options.studies)):  # fills all caches
        report(f"warming up: {contender}")
        fresh.run(contender, roots[min(roots)])
    found = PipelineFound(
        stage_studies=max(options.studies), compressed=compressed_share(drawn, options.size)
    )
    for count, data in roots.items():
        rounds = options.rounds if count in options.studies else 1
        report(f"studies: {count}, rounds: {rounds}")
        runs = in_turns(
            {one: partial(fresh.run, one, data) for one in options.contenders(count)},
            rounds=rounds,
            progress=lambda _: report("a round is done"),
        )
        found = replace(found, runs={**found.runs, count: runs})
        yield found
    for variant in dict.fromkeys(replace(one, slices=ALL_SLICES) for one in options.variants):
        report(f"stages: {variant}")
        stages = time_stages(
            bundle.folder,
            roots[found.stage_studies],
            variant,
            rounds=options.rounds,
            threads=options.threads,
            workers=options.workers,
            scratch=work / "rows.csv",
        )
        found = replace(found, stages={**found.stages, variant: stages})
        yield found
    report("comparing rows")
    run_by_all = [n for n in options.studies if METHOD in options.contenders(n)]
    count = max(run_by_all or options.studies)
    compared = min(AGREEMENT_STUDIES, options.distinct, count)
    ids = tuple(str(FIRST_ID + index) for index in range(compared))
    reference = reference_rows(bundle, roots[count], ids)
    agreements = {PREDICT: agreement(reference.predict, reference.forward)}
    for contender in options.contenders(count):
        rows = read_submission(fresh.submission(contender, roots[count]))
        agreements[str(contender)] = agreement(rows, reference.forward)
    yield replace(found, agreements=agreements, agreement_studies=compared, boxes=reference.boxes)
