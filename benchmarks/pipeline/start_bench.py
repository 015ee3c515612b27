"""``rsna-bench start``: what a user waits for before anything is computed.

Fresh processes in turns. For one study, the wall time without its pure inference is the overhead:
interpreter, imports, models, files, rows. Pure inference is measured in the same rounds, in this
process, with everything loaded.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rsna_lumbar.benchmarks.harness.fresh_runs import (
    RUN,
    FreshOptions,
    FreshRuns,
    prepare,
    quiet_environment,
)
from rsna_lumbar.benchmarks.harness.median_study import repeat_studies
from rsna_lumbar.benchmarks.harness.process_tree import Measured, run_measured
from rsna_lumbar.benchmarks.harness.timing import Samples, in_turns, seconds
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.studies.finder import find_studies

PYTHON = (sys.executable, "-c")
IMPORT = "from rsna_lumbar.runtime import Scorer, stream_studies"
BARE: Mapping[str, Sequence[str]] = {
    "python -c pass": (*PYTHON, "pass"),
    "import numpy": (*PYTHON, "import numpy"),
    "import Scorer, stream_studies": (*PYTHON, IMPORT),
    "rsna-run --help": (*RUN, "--help"),
    "rsna-run --demo": (*RUN, "--demo", "--quiet"),
}
COMPILES = "openvino"  # the backend that keeps compiled models


@dataclass(frozen=True, slots=True)
class OneStudy:
    """A way to score one study in a fresh process."""

    variant: Variant
    cache_empty: bool  # the cache of compiled models

    def __str__(self) -> str:
        cache = ", nothing compiled yet" if self.cache_empty else ", compiled models cached"
        return f"one study, {self.variant}{cache if self.variant.backend == COMPILES else ''}"


@dataclass(frozen=True, slots=True)
class StartFound:
    """Everything that was measured, by round."""

    bare: Mapping[str, Sequence[Measured]]
    studies: Mapping[OneStudy, Sequence[Measured]]
    inference_s: Mapping[Variant, Samples]


def run_start(options: FreshOptions, work: Path, *, report: Callable[[str], object]) -> StartFound:
    """Measure everything.  The folder keeps studies, checkpoints, bundle and caches."""
    drawn, bundle = prepare(options, work, report)
    data = repeat_studies(drawn, work / f"studies-{options.distinct}-1", options.size, count=1)
    fresh = FreshRuns(options, bundle, work)
    ways = [
        OneStudy(variant, empty)
        for variant in options.variants
        for empty in ((False, True) if variant.backend == COMPILES else (False,))
    ]
    calls: dict[str | OneStudy | Variant, Callable[[], Measured | float]] = {}
    for name, command in BARE.items():
        calls[name] = partial(_measured, command, work, work / "cache")
    for one in ways:
        command = [*fresh.command(one.variant, data), "--quiet"]
        calls[one] = partial(_measured, command, work, work / "cache", empty=one.cache_empty)
    with ExitStack() as stack:
        for variant in dict.fromkeys(options.variants):
            scorer = stack.enter_context(variant.scorer(bundle.folder, options.threads))
            calls[variant] = partial(seconds, _inference(scorer, data))
        report(f"{options.rounds} rounds of {len(calls)}")
        in_turns(calls, rounds=1)  # warms up
        found = in_turns(calls, rounds=options.rounds, progress=lambda _: report("a round is done"))
    return StartFound(
        {name: _processes(found[name]) for name in BARE},
        {one: _processes(found[one]) for one in ways},
        {one: np.array(samples) for one, samples in found.items() if isinstance(one, Variant)},
    )


def _processes(found: Sequence[Measured | float]) -> list[Measured]:
    return [one for one in found if isinstance(one, Measured)]


def _measured(command: Sequence[str], work: Path, cache: Path, *, empty: bool = False) -> Measured:
    """A fresh process; with ``empty`` it has a separate cache, without compiled models."""
    if empty:
        cache = cache.with_name(f"{cache.name}-empty")
        shutil.rmtree(cache, ignore_errors=True)
    return run_measured(command, folder=work, environment=quiet_environment(cache))


def _inference(scorer: Scorer, data: Path) -> Callable[[], object]:
    """Scores a study that is decoded already."""
    found = find_studies(data)
    sets = list(scorer.decoded(found))
    return lambda: list(scorer.scored(found, sets))
