"""The shipped detectors in every format and precision: built, verified, scored with, and timed.

Each pair has a copy of the demo's bundle to itself. Nothing is left out for its differences here:
all limits are lifted while it is verified, and the row says what is over the real ones.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsna_lumbar.benchmarks.gpu.flight import measure_throughput
from rsna_lumbar.benchmarks.gpu.jobs import TIMING_CACHE, Settings
from rsna_lumbar.benchmarks.gpu.plan import DRAWN, FLIGHT, SUBMISSION, VERIFIED
from rsna_lumbar.benchmarks.gpu.rows import OK, Figure, Notes, Row
from rsna_lumbar.export.bundling.build import extend_bundle, verify_bundle
from rsna_lumbar.export.bundling.options import BASE, ExportOptions
from rsna_lumbar.export.formats import BACKEND_OF, BuildOptions
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.export.verification.parity import faults
from rsna_lumbar.runtime import Scorer, find_studies, submission_rows
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import Model, Parity, Variant
from rsna_lumbar.runtime.core.errors import LumbarError
from rsna_lumbar.runtime.decode.slice_sets import read_sets
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies
from rsna_lumbar.runtime.system.machine import CPU
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.phantom import PhantomOptions, make_phantom

CALIBRATION, VERIFICATION = "calibration", "verification"  # folders
SEEDS = {CALIBRATION: 41, VERIFICATION: 42}
TABLE = "train.csv"
MATRIX_PX = 160  # as the demo's detectors were trained
# Every row may change; the metric may be as bad as it likes, but finite: nothing times infinity is
# no number, and that is over every limit.
NO_LIMITS = dict.fromkeys(LIMITS, Limits(math.inf, math.inf, math.inf, 1.0, 1e9))
NOT_RUN = "was not run here: "  # of export's lines
FLIGHT_GROUP, FLIGHT_BATCH = "subarticular", 16


@dataclass(frozen=True, slots=True)
class Case:
    """A format and precision, in a bundle of its own."""

    name: str
    precision: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"

    @property
    def is_base(self) -> bool:
        return (self.name, self.precision) == BASE

    def of(self, model: Model) -> bool:
        return (model.backend, model.precision) == (BACKEND_OF[self.name], self.precision)


def draw_studies(notes: Notes, settings: Settings) -> None:
    """Phantom studies to calibrate int8 on, and others to verify on."""
    count = 4 if settings.quick else 12
    for name, seed in SEEDS.items():
        notes.begin(f"drawing {count} studies for {name}")
        make_phantom(
            settings.work / name,
            PhantomOptions(studies=count, seed=seed, matrix_px=MATRIX_PX),
            workers=2,
        )
        figures = {"what": f"{count} studies, {MATRIX_PX} px, seed {seed}"}
        notes.add(Row(DRAWN, name, OK, figures))


def check_pair(notes: Notes, settings: Settings, name: str, precision: str) -> None:
    """Build, verify, score and time one format and precision."""
    prepare_third_party("convert")
    case = Case(name, precision, settings.work / f"bundle-{name}-{precision}")
    shutil.copytree(demo_bundle(), case.folder)
    if not _built(case, notes, settings):
        return
    _score(case, notes)
    _time_flight(case, notes, settings)


def _built(case: Case, notes: Notes, settings: Settings) -> bool:
    """Whether there is a model that runs here."""
    said: list[str] = []
    left_out: dict[Variant, str] = {}
    options = _options(case, settings)
    start = time.perf_counter()
    if not case.is_base:
        notes.begin("building and verifying")
        outcome = extend_bundle(case.folder, options=options, report=said.append)
        left_out.update(outcome.left_out)
    seconds = time.perf_counter() - start
    notes.begin("verifying")
    outcome = verify_bundle(case.folder, options=options, trust=False, report=said.append)
    left_out.update(outcome.left_out)
    models = [model for _, model in read_bundle(case.folder).models if case.of(model)]
    parities = [model.parity for model in models if model.parity]
    figures = _figures(case, models, parities, seconds)
    notes.add(Row(VERIFIED, str(case), _verdict(case, models, parities, said, left_out), figures))
    return bool(models) and len(parities) == len(models)


def _options(case: Case, settings: Settings) -> ExportOptions:
    verification = _drawn(settings, VERIFICATION)
    return ExportOptions(
        formats=(case.name,),
        precisions=(case.precision,),
        build=BuildOptions(timing_cache=settings.work / TIMING_CACHE),
        calibration_data=_drawn(settings, CALIBRATION),
        verify_data=verification,
        verify_labels=verification / TABLE if verification else None,
        limits=NO_LIMITS,
    )


def _drawn(settings: Settings, name: str) -> Path | None:
    """Studies that :func:`draw_studies` came to the end with: it writes its tables last."""
    folder = settings.work / name
    return folder if (folder / TABLE).exists() else None


def _verdict(
    case: Case,
    models: Sequence[Model],
    parities: Sequence[Parity],
    said: Sequence[str],
    left_out: Mapping[Variant, str],
) -> str:
    if not models:
        return f"left out: {'; '.join(left_out.values())}"
    if len(parities) < len(models):
        reasons = [line.partition(NOT_RUN)[2] for line in said if NOT_RUN in line]
        return f"built, unverified: {reasons[-1] if reasons else 'no reason given'}"
    if case.is_base:
        return OK  # compared with itself; its rows on this device are compared below
    found = _over(parities, LIMITS[case.precision])
    return f"over the limits: {'; '.join(found)}" if found else OK


def _over(parities: Sequence[Parity], limits: Limits) -> list[str]:
    """What export would have left the variant out for; these studies are too few for the metric."""
    found = list(dict.fromkeys(fault for one in parities for fault in faults(one, limits)))
    changed, rows = _changed(parities)
    if changed > max(1, limits.changed * rows):
        found.append(f"{changed} of {rows} rows changed (limit {limits.changed:.1%})")
    return found


def _changed(parities: Sequence[Parity]) -> tuple[int, int]:
    """Rows of all detectors whose likeliest grade is another, and all of them."""
    return sum(one.changed_rows for one in parities), sum(one.rows for one in parities)


def _figures(
    case: Case, models: Sequence[Model], parities: Sequence[Parity], seconds: float
) -> dict[str, Figure]:
    """Of all three detectors: largest differences, sum of rows, mean of times."""
    figures: dict[str, Figure] = {"device": None, "build s": None if case.is_base else seconds}
    if not parities or len(parities) < len(models):
        return figures
    speeds = [one.ms_per_slice for one in parities if one.ms_per_slice is not None]
    figures["device"] = parities[0].device
    if not case.is_base:
        figures["max diff"] = max(one.probability for one in parities)
        figures["99.9 %"] = max(one.probability_p999 for one in parities)
        changed, rows = _changed(parities)
        figures["changed"] = f"{changed} of {rows}"
        metrics = [one.metric for one in parities if one.metric]
        figures["metric fp32"], figures["metric"] = metrics[0] if metrics else (None, None)
    figures["ms/slice"] = sum(speeds) / len(speeds) if speeds else None
    return figures


def _score(case: Case, notes: Notes) -> None:
    """The rows that would be written, against those of the float32 graph on the CPU."""
    notes.begin("scoring the demo's studies")
    try:
        expected = _rows(demo_bundle(), "onnx", "fp32", CPU)
        with Scorer(case.folder, backend=BACKEND_OF[case.name], precision=case.precision) as scorer:
            device = scorer.device
            found = _written(scorer)
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


def _rows(bundle: Path, name: str, precision: str, device: str) -> np.ndarray:
    with Scorer(bundle, backend=BACKEND_OF[name], precision=precision, device=device) as scorer:
        return _written(scorer)


def _written(scorer: Scorer) -> np.ndarray:
    """(rows, 3) of the demo's studies."""
    scores = scorer.score(find_studies(demo_studies()))
    return np.array([row[1:] for study in scores for row in submission_rows(study)])


def _time_flight(case: Case, notes: Notes, settings: Settings) -> None:
    notes.begin("timing batches in flight")
    with Scorer(case.folder, backend=BACKEND_OF[case.name], precision=case.precision) as scorer:
        detector = next(one for one in scorer.bundle.detectors if one.group.name == FLIGHT_GROUP)
        sets = read_sets(
            find_studies(demo_studies()),
            detector.group,
            size_px=detector.size_px,
            preprocessing=scorer.bundle.preprocessing,
        )
        slices = np.concatenate(list(sets.values()))[:FLIGHT_BATCH]
        session = scorer.models[FLIGHT_GROUP][0].session
        found = measure_throughput(session, slices, rounds=settings.rounds)
    figures: dict[str, Figure] = {
        "device": scorer.device,
        "ahead": found.ahead,
        "ms/slice alone": found.alone,
        "ms/slice in flight": found.in_flight,
        "gain": f"{found.alone / found.in_flight:.2f}x" if found.in_flight else None,
    }
    notes.add(Row(FLIGHT, str(case), OK, figures))
