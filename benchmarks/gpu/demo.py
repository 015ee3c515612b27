"""The shipped detectors in every format and precision: built, verified, used for scoring, timed.

Each pair of format and precision has a copy of the demo's bundle. Limits are lifted during
verification, so that no pair is excluded; the row says which of the real limits it exceeds.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsna_lumbar.benchmarks.gpu.flight import measure_throughput
from rsna_lumbar.benchmarks.gpu.jobs import TIMING_CACHE, Settings
from rsna_lumbar.benchmarks.gpu.plan import DRAWN, FLIGHT, SUBMISSION, VERIFIED
from rsna_lumbar.benchmarks.gpu.rows import OK, Figure, Notes, Row
from rsna_lumbar.benchmarks.harness.bench_bundle import NO_LIMITS
from rsna_lumbar.export.bundling.build import extend_bundle, verify_bundle
from rsna_lumbar.export.bundling.options import BASE, ExportOptions
from rsna_lumbar.export.formats import BACKEND_OF, BuildOptions
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.export.verification.parity import faults
from rsna_lumbar.runtime import Scorer, find_studies, submission_rows
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import Parity
from rsna_lumbar.runtime.core.errors import LumbarError
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies
from rsna_lumbar.runtime.system.machine import CPU
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.phantom import PhantomOptions, make_phantom

CALIBRATION, VERIFICATION = "calibration", "verification"  # folders
SEEDS = {CALIBRATION: 41, VERIFICATION: 42}
TABLE = "train.csv"
MATRIX_PX = 160  # as the demo's detectors were trained
NOT_RUN = "was not run here: "  # in lines of rsna-export
FLIGHT_GROUP, FLIGHT_BATCH = "subarticular", 16


@dataclass(frozen=True, slots=True)
class Case:
    """A format and precision, in a separate bundle."""

    name: str
    precision: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"

    @property
    def is_base(self) -> bool:
        return (self.name, self.precision) == BASE

    def scorer(self, device: str = "auto") -> Scorer:
        backend = BACKEND_OF[self.name]
        return Scorer(self.folder, backend=backend, precision=self.precision, device=device)


def draw_studies(notes: Notes, settings: Settings) -> None:
    """Phantom studies to calibrate int8 on, and others to verify on."""
    count = 4 if settings.quick else 12
    for name, seed in SEEDS.items():
        notes.begin(f"drawing {count} studies for {name}")
        options = PhantomOptions(studies=count, seed=seed, matrix_px=MATRIX_PX)
        make_phantom(settings.work / name, options, workers=2)
        figures = {"what": f"{count} studies, {MATRIX_PX} px, seed {seed}"}
        notes.add(Row(DRAWN, name, OK, figures))


def check_pair(notes: Notes, settings: Settings, name: str, precision: str) -> None:
    """Build, verify, score and time one format and precision."""
    prepare_third_party("convert")
    case = Case(name, precision, settings.work / f"bundle-{name}-{precision}")
    shutil.copytree(demo_bundle(), case.folder)
    if _built(case, notes, settings):
        _score(case, notes)
        _time_flight(case, notes, settings)


def _built(case: Case, notes: Notes, settings: Settings) -> bool:
    """Build and verify; return whether there is a model that runs here."""
    said: list[str] = []
    options = _options(case, settings)
    figures: dict[str, Figure] = {"device": None, "build s": None}
    reasons: list[str] = []
    if not case.is_base:
        notes.begin("building and verifying")
        start = time.perf_counter()
        outcome = extend_bundle(case.folder, options=options, report=said.append)
        figures["build s"] = time.perf_counter() - start
        reasons += outcome.left_out.values()
    notes.begin("verifying")
    outcome = verify_bundle(case.folder, options=options, trust=False, report=said.append)
    reasons += outcome.left_out.values()
    pair = (BACKEND_OF[case.name], case.precision)
    models = [m for _, m in read_bundle(case.folder).models if (m.backend, m.precision) == pair]
    parities = [model.parity for model in models if model.parity]
    runs = bool(models) and len(parities) == len(models)
    if runs:
        # The base is compared with itself here; its rows on this device are compared below.
        status = OK if case.is_base else verdict(parities, LIMITS[case.precision])
        figures |= _figures(case, parities)
    elif models:
        lines = [line.partition(NOT_RUN)[2] for line in said if NOT_RUN in line]
        status = f"built, unverified: {lines[-1] if lines else 'no reason given'}"
    else:
        status = f"left out: {'; '.join(dict.fromkeys(reasons))}"
    notes.add(Row(VERIFIED, str(case), status, figures))
    return runs


def _options(case: Case, settings: Settings) -> ExportOptions:
    verification = _drawn(settings, VERIFICATION)
    return ExportOptions(
        formats=(case.name,),
        precisions=(case.precision,),
        build=BuildOptions(timing_cache=settings.work / TIMING_CACHE),
        calibration_data=_drawn(settings, CALIBRATION),
        verify_data=verification,
        verify_labels=verification / TABLE if verification else None,
        limits=dict.fromkeys(LIMITS, NO_LIMITS),
    )


def _drawn(settings: Settings, name: str) -> Path | None:
    """Studies that :func:`draw_studies` finished: it writes its tables last."""
    folder = settings.work / name
    return folder if (folder / TABLE).exists() else None


def verdict(parities: Sequence[Parity], limits: Limits) -> str:
    """OK, or the limits that exclude the variant; the studies are too few for the metric."""
    found = list(dict.fromkeys(fault for one in parities for fault in faults(one, limits)))
    changed, rows = _changed(parities)
    if changed > max(1, limits.changed * rows):
        found.append(f"{changed} of {rows} rows changed (limit {limits.changed:.1%})")
    return f"over the limits: {'; '.join(found)}" if found else OK


def _changed(parities: Sequence[Parity]) -> tuple[int, int]:
    """Rows of all detectors whose likeliest grade changes, and all rows."""
    return sum(one.changed_rows for one in parities), sum(one.rows for one in parities)


def _figures(case: Case, parities: Sequence[Parity]) -> dict[str, Figure]:
    """Of all three detectors: largest differences, sum of rows, mean of times."""
    figures: dict[str, Figure] = {"device": parities[0].device}
    if not case.is_base:
        figures["max diff"] = max(one.probability for one in parities)
        figures["99.9 %"] = max(one.probability_p999 for one in parities)
        changed, rows = _changed(parities)
        figures["changed"] = f"{changed} of {rows}"
        metrics = [one.metric for one in parities if one.metric]
        figures["metric fp32"], figures["metric"] = metrics[0] if metrics else (None, None)
    speeds = [one.ms_per_slice for one in parities if one.ms_per_slice is not None]
    figures["ms/slice"] = sum(speeds) / len(speeds) if speeds else None
    return figures


def _score(case: Case, notes: Notes) -> None:
    """Compare the rows of the demo's studies with those of the float32 graph on the CPU."""
    notes.begin("scoring the demo's studies")
    with Case(*BASE, demo_bundle()).scorer(CPU) as scorer:
        expected = _rows(scorer)
    try:
        with case.scorer() as scorer:
            device, found = scorer.device, _rows(scorer)
    except LumbarError as error:
        notes.add(Row(SUBMISSION, str(case), f"not run: {error}"))
        return
    figures: dict[str, Figure] = {
        "device": device,
        "rows": len(found),
        "max diff": float(np.abs(found - expected).max()),
        "changed": int((found.argmax(axis=1) != expected.argmax(axis=1)).sum()),
    }
    notes.add(Row(SUBMISSION, str(case), OK, figures))


def _rows(scorer: Scorer) -> np.ndarray:
    """Probabilities of the demo's studies, (rows, 3)."""
    scores = scorer.score(find_studies(demo_studies()))
    return np.array([row[1:] for study in scores for row in submission_rows(study)])


def _time_flight(case: Case, notes: Notes, settings: Settings) -> None:
    notes.begin("timing batches in flight")
    with case.scorer() as scorer:
        detector = next(one for one in scorer.bundle.detectors if one.group.name == FLIGHT_GROUP)
        shape = (FLIGHT_BATCH, detector.size_px, detector.size_px)
        slices = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        session = scorer.models[FLIGHT_GROUP][0].session
        ms = measure_throughput(session, slices, rounds=settings.rounds)
    figures: dict[str, Figure] = {
        "device": scorer.device,
        "ahead": session.ahead,
        "ms/slice alone": ms[1],
        "ms/slice in flight": ms[session.ahead] if session.ahead > 1 else None,
        "gain": f"{ms[1] / ms[session.ahead]:.2f}x" if session.ahead > 1 else None,
    }
    notes.add(Row(FLIGHT, str(case), OK, figures))
