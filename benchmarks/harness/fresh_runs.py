"""Both ways from DICOM to submission, each in a fresh process: what a user waits for.

A run includes the start of the interpreter, imports, and loading the models. ``rsna-run`` writes
rows as studies are scored, but into a file that becomes visible when all is done; its progress bar
tells when the first study is.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.benchmarks.harness.bench_bundle import BenchBundle
from rsna_lumbar.benchmarks.harness.process_tree import Measured, run_measured
from rsna_lumbar.benchmarks.harness.variants import Variant

METHOD = "the method's own way"
# What would set thread counts behind the back of the options; every contender chooses for itself.
UNSET = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
# As the console script does it.
RUN = (sys.executable, "-c", "from rsna_lumbar.runtime.cli import main; main()")
METHOD_MODULE = (sys.executable, "-m", "rsna_lumbar.benchmarks.harness.method")
SCORED = re.compile(rb"scoring:[^\r\n]*\| *[1-9][0-9]*/")
EVERY_STEP = {"TQDM_MININTERVAL": "0"}  # the bar is drawn anew at each

Contender = Variant | str  # METHOD is the only text


@dataclass(frozen=True, slots=True)
class FreshRun:
    """One run to the end."""

    measured: Measured
    first_row_s: float | None  # from the start of the process; None where there is no terminal
    stages_s: Mapping[str, float]  # of the method: import, load, decode, predict, rows


class FreshRuns:
    """Runs contenders over studies.

    Args:
        bundle: with every variant that will be asked for.
        work: folder for submissions and caches.
        size_px: side of the slices.
        threads: of every contender.
        workers: decoding processes of ours; None leaves it to ``rsna-run``.
    """

    def __init__(
        self, bundle: BenchBundle, work: Path, *, size_px: int, threads: int, workers: int | None
    ) -> None:
        self._bundle = bundle
        self._work = work
        self._size_px = size_px
        self._threads = threads
        self._workers = workers
        (work / "submissions").mkdir(exist_ok=True)
        self.environment = quiet_environment(work / "cache")

    def run(self, contender: Contender, data: Path) -> FreshRun:
        """Score a root with one contender."""
        if isinstance(contender, Variant):
            return self._ours(contender, data)
        return self._method(data)

    def submission(self, contender: Contender, data: Path) -> Path:
        """Where a contender's rows for a root are."""
        name = str(contender).replace(":", "-").replace(" ", "-").replace("'", "")
        return self._work / "submissions" / f"{name}-{data.name}.csv"

    def _ours(self, variant: Variant, data: Path) -> FreshRun:
        measured = run_measured(
            [*RUN, *self.words(variant, data)],
            folder=self._work,
            environment={**self.environment, **EVERY_STEP},
            sign=SCORED,
        )
        return FreshRun(measured, measured.sign_s, {})

    def words(self, variant: Variant, data: Path) -> list[str]:
        """Arguments of ``rsna-run``."""
        output = self.submission(variant, data)
        words = [str(data), "--bundle", str(self._bundle.folder), "--output", str(output)]
        words += [*variant.options, "--threads", str(self._threads)]
        return words if self._workers is None else [*words, "--workers", str(self._workers)]

    def _method(self, data: Path) -> FreshRun:
        record = self._work / "submissions" / "method-stages.json"
        weights = [
            w for name, path in self._bundle.weights.items() for w in (f"--{name}", str(path))
        ]
        command = [*METHOD_MODULE, str(data), *weights]
        command += ["--output", str(self.submission(METHOD, data)), "--record", str(record)]
        command += ["--image-size", str(self._size_px), "--threads", str(self._threads)]
        measured = run_measured(command, folder=self._work, environment=self.environment)
        # All its rows are written at the end.
        return FreshRun(measured, measured.wall_s, json.loads(record.read_text()))


def quiet_environment(cache: Path) -> dict[str, str]:
    """This one, without thread counts, and with a cache of compiled models of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, "XDG_CACHE_HOME": str(cache)}
