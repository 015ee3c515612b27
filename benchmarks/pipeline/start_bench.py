"""``rsna-bench start``: what a user waits for before anything is computed.

Fresh processes in turns. For one study, what is left of the wall time beside its pure inference is
the overhead: interpreter, imports, models, files, rows. Pure inference is measured in the same
rounds, in a process that has everything loaded.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rsna_lumbar.benchmarks.harness.bench_bundle import BenchBundle, make_bench_bundle
from rsna_lumbar.benchmarks.harness.fresh_runs import RUN, quiet_environment
from rsna_lumbar.benchmarks.harness.median_study import (
    MEDIAN,
    StudySize,
    draw_studies,
    repeat_studies,
)
from rsna_lumbar.benchmarks.harness.process_tree import Measured, run_measured
from rsna_lumbar.benchmarks.harness.timing import Samples, interleaved, warm_up
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.studies.finder import find_studies

PYTHON = (sys.executable, "-c")
BARE: Mapping[str, Sequence[str]] = {
    "python -c pass": (*PYTHON, "pass"),
    "import numpy": (*PYTHON, "import numpy"),
    "import Scorer, stream_studies": (
        *PYTHON,
        "from rsna_lumbar.runtime import Scorer, stream_studies",
    ),
    "rsna-run --help": (*RUN, "--help"),
    "rsna-run --demo": (*RUN, "--demo", "--quiet"),
}
COMPILES = "openvino"  # the backend that keeps compiled models


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """What is timed, and how."""

    variants: tuple[Variant, ...]
    scale: str
    size_px: int
    rounds: int
    threads: int
    distinct: int = 4  # studies that are drawn, to calibrate int8 on
    size: StudySize = MEDIAN


@dataclass(frozen=True, slots=True)
class OneStudy:
    """A way to score one study, from cold."""

    variant: Variant
    cache_empty: bool  # of compiled models

    def __str__(self) -> str:
        cached = "" if self.variant.backend != COMPILES else ", compiled models cached"
        return (
            f"one study, {self.variant}{', nothing compiled yet' if self.cache_empty else cached}"
        )


@dataclass(frozen=True, slots=True)
class StartFound:
    """Everything that was measured, by round."""

    bare: Mapping[str, Sequence[Measured]]
    studies: Mapping[OneStudy, Sequence[Measured]]
    inference_s: Mapping[Variant, Samples]


def run_start(options: StartOptions, work: Path, *, report: Callable[[str], object]) -> StartFound:
    """Measure everything.

    Args:
        options: what and how.
        work: folder for the study, checkpoints, bundle and caches; kept as it is left.
        report: takes a line of progress.
    """
    report("drawing studies")
    drawn = work / f"drawn-{options.distinct}"
    draw_studies(drawn, options.size, count=options.distinct)
    data = repeat_studies(drawn, work / f"studies-{options.distinct}-1", options.size, count=1)
    report("building the bundle")
    bundle = make_bench_bundle(
        work, options.variants, scale=options.scale, size_px=options.size_px, studies=drawn
    )
    bare: dict[str, list[Measured]] = {name: [] for name in BARE}
    studies: dict[OneStudy, list[Measured]] = {one: [] for one in _ways(options)}
    with ExitStack() as stack:
        contenders: dict[str | OneStudy | Variant, Callable[[], object]] = {
            **{name: partial(_run_bare, name, work, kept) for name, kept in bare.items()},
            **{
                one: partial(_run_study, one, options, bundle, data, work, kept)
                for one, kept in studies.items()
            },
            **{
                one: _inference(one, options, bundle, data, stack)
                for one in dict.fromkeys(way.variant for way in studies)
            },
        }
        report(f"{options.rounds} rounds of {len(contenders)}")
        warm_up(contenders.values())
        seconds = interleaved(
            contenders, rounds=options.rounds, progress=lambda _: report("a round is done")
        )
    return StartFound(
        {name: kept[1:] for name, kept in bare.items()},  # without the warm-up
        {one: kept[1:] for one, kept in studies.items()},
        {one: taken for one, taken in seconds.items() if isinstance(one, Variant)},
    )


def _ways(options: StartOptions) -> list[OneStudy]:
    return [
        OneStudy(variant, empty)
        for variant in options.variants
        for empty in ((False, True) if variant.backend == COMPILES else (False,))
    ]


def _run_bare(name: str, work: Path, kept: list[Measured]) -> None:
    environment = quiet_environment(work / "cache")
    kept.append(run_measured(BARE[name], folder=work, environment=environment))


def _run_study(
    one: OneStudy,
    options: StartOptions,
    bundle: BenchBundle,
    data: Path,
    work: Path,
    kept: list[Measured],
) -> None:
    cache = work / ("cache-empty" if one.cache_empty else "cache")
    if one.cache_empty:
        shutil.rmtree(cache, ignore_errors=True)
    command = [*RUN, str(data), "--bundle", str(bundle.folder)]
    command += ["--output", str(work / "one.csv"), *one.variant.options]
    command += ["--threads", str(options.threads), "--quiet"]
    kept.append(run_measured(command, folder=work, environment=quiet_environment(cache)))


def _inference(
    variant: Variant, options: StartOptions, bundle: BenchBundle, data: Path, stack: ExitStack
) -> Callable[[], object]:
    """Scores the study from slices that are decoded, with models that are loaded."""
    scorer = stack.enter_context(
        Scorer(
            bundle.folder,
            backend=variant.backend,
            precision=variant.precision,
            device="cpu",
            threads=options.threads,
        )
    )
    found = find_studies(data)
    sets = list(scorer.decoded(found))
    return lambda: list(scorer.scored(found, sets))
