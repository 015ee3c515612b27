"""``rsna-run`` and the method's own way, each in a fresh process: what a user waits for.

A run includes the start of the interpreter, imports, and loading the models. ``rsna-run`` writes
rows as studies are scored, but into a file that becomes visible at the end; its progress bar tells
when the first study is scored.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.benchmarks.harness.bench_bundle import BenchBundle, make_bench_bundle
from rsna_lumbar.benchmarks.harness.median_study import MEDIAN, StudySize, draw_studies
from rsna_lumbar.benchmarks.harness.process_tree import Measured, run_measured
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.runtime.core.labels import GROUPS

METHOD = "the method's own way"
# They would set thread counts regardless of the options; every contender chooses for itself.
UNSET = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
# As the console script does it.
RUN = (sys.executable, "-c", "from rsna_lumbar.runtime.cli import main; main()")
METHOD_MODULE = (sys.executable, "-m", "rsna_lumbar.benchmarks.harness.method")
SCORED = re.compile(rb"scoring:[^\r\n]*\| *[1-9][0-9]*/")
EVERY_STEP = {"TQDM_MININTERVAL": "0"}  # the progress bar is drawn anew at each step

Contender = Variant | str  # METHOD is the only text


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshOptions:
    """What fresh processes run, and how often."""

    variants: tuple[Variant, ...]
    scale: str  # of YOLOv8: n, s, m, l or x
    size_px: int
    rounds: int
    threads: int  # of every contender
    workers: int | None = None  # decoding processes; None leaves it to rsna-run
    distinct: int = 4  # studies that are drawn; larger roots repeat them
    size: StudySize = MEDIAN

    @property
    def model(self) -> str:
        return f"three YOLOv8{self.scale} of random weights, {self.size_px} px"


@dataclass(frozen=True, slots=True)
class FreshRun:
    """One run to the end."""

    measured: Measured
    first_row_s: float | None  # from the start of the process; None without a terminal
    stages_s: Mapping[str, float]  # of the method: import, load, decode, predict, rows


def prepare(
    options: FreshOptions, work: Path, report: Callable[[str], object]
) -> tuple[Path, BenchBundle]:
    """Draw studies and build the bundle, unless they are in the folder; return both."""
    drawn = work / f"drawn-{options.distinct}"
    report("drawing studies")
    draw_studies(drawn, options.size, count=options.distinct)
    report("building the bundle")
    bundle = make_bench_bundle(
        work, options.variants, scale=options.scale, size_px=options.size_px, studies=drawn
    )
    return drawn, bundle


class FreshRuns:
    """Runs contenders over studies; the folder keeps submissions and caches."""

    def __init__(self, options: FreshOptions, bundle: BenchBundle, work: Path) -> None:
        self._options = options
        self._bundle = bundle
        self._work = work
        (work / "submissions").mkdir(exist_ok=True)
        self.environment = quiet_environment(work / "cache")

    def run(self, contender: Contender, data: Path) -> FreshRun:
        """Score a root with one contender."""
        if isinstance(contender, Variant):
            measured = run_measured(
                self.command(contender, data),
                folder=self._work,
                environment={**self.environment, **EVERY_STEP},
                sign=SCORED,
            )
            return FreshRun(measured, measured.sign_s, {})
        record = self._work / "submissions" / "method-stages.json"
        weights = [self._bundle.weights[group.name] for group in GROUPS]
        words = (data, self.submission(METHOD, data), record, self._options.size_px)
        command = [*METHOD_MODULE, *map(str, (*words, self._options.threads, *weights))]
        measured = run_measured(command, folder=self._work, environment=self.environment)
        # It writes all rows at the end.
        return FreshRun(measured, measured.wall_s, json.loads(record.read_text()))

    def submission(self, contender: Contender, data: Path) -> Path:
        """The file for a contender's rows of a root."""
        name = str(contender).replace(":", "-").replace(" ", "-").replace("'", "")
        return self._work / "submissions" / f"{name}-{data.name}.csv"

    def command(self, variant: Variant, data: Path) -> list[str]:
        """``rsna-run`` with a variant over a root."""
        output, workers = self.submission(variant, data), self._options.workers
        words = [*RUN, str(data), "--bundle", str(self._bundle.folder), "--output", str(output)]
        words += [*variant.options, "--threads", str(self._options.threads)]
        return words if workers is None else [*words, "--workers", str(workers)]


def quiet_environment(cache: Path) -> dict[str, str]:
    """This environment without thread counts, and with a separate cache of compiled models."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, "XDG_CACHE_HOME": str(cache)}
