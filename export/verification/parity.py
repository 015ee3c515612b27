"""Compare a model with the reference on the same slices.

The model runs as in ``rsna-run``, on batches of several sets; a set larger than a batch is combined
from its parts. The reference is the unmodified network in PyTorch float32. Without the checkpoints
it is the bundle's float32 graph on the CPU, which was compared with PyTorch when it was made.
Peaks of the reference are aggregated by the numpy definition.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.verification.data import Sets
from rsna_lumbar.export.verification.limits import Limits
from rsna_lumbar.runtime.backends import Session, SessionSettings
from rsna_lumbar.runtime.bundle.records import Detector, Model, Parity
from rsna_lumbar.runtime.core.errors import VerificationError
from rsna_lumbar.runtime.core.postprocess import probabilities, set_peaks
from rsna_lumbar.runtime.inference.batches import pack
from rsna_lumbar.runtime.inference.sessions import default_batch_size, open_model
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.machine import CPU, this_machine

LEAST_SPREAD = 1e-3  # range of a class's peaks over all slices, in the class that varies most
TIMED_ROUNDS = 5
MILLISECONDS = 1e3

Report = Callable[[str], None]
SlicePeaks = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (N, S, S) -> (N, C)
Peaks = dict[str, NDArray[np.float32]]  # study id -> (C,)


@dataclass(frozen=True, eq=False, slots=True)
class Expected:
    """The reference's answers."""

    reference: str  # as in Parity
    peaks: Peaks


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A model's answers on the same sets, and their differences from the reference's."""

    peaks: Peaks
    parity: Parity


@contextmanager
def graph_peaks(folder: Path, model: Model, detector: Detector) -> Iterator[SlicePeaks]:
    """The bundle's float32 graph on the CPU as the reference; each slice is a set."""
    size = default_batch_size([model], CPU)
    settings = SessionSettings(CPU, usable_cores())
    with open_model(folder, model, detector, settings) as session:

        def peaks(slices: NDArray[np.uint8]) -> NDArray[np.float32]:
            parts = (slices[start : start + size] for start in range(0, len(slices), size))
            return np.concatenate(
                [session.run(part, np.eye(len(part), dtype=bool)).peak for part in parts]
            )

        yield peaks


def expect(
    slice_peaks: SlicePeaks, sets: Sets, *, reference: str, name: str, report: Report
) -> Expected:
    """The reference's peaks of at least one set.

    Args:
        reference: the name of the reference in the manifest.
        name: the detector's name, for a warning.
        report: takes the warning that the peaks hardly vary.
    """
    by_slice = np.concatenate([slice_peaks(images) for images in sets.values()])
    if np.ptp(by_slice, axis=0).max() < LEAST_SPREAD:
        report(
            f"Warning: {name} gives nearly the same peaks for every slice, so this check proves "
            "little; is it trained, and are these slices of its series kind?"
        )
    owner = np.repeat(np.arange(len(sets)), [len(one) for one in sets.values()])
    peaks, _ = set_peaks(by_slice, owner == np.arange(len(sets))[:, None])
    return Expected(reference, dict(zip(sets, peaks.astype(np.float32), strict=True)))


def verify(
    session: Session,
    sets: Sets,
    expected: Expected,
    *,
    detector: Detector,
    batch_size: int,
    source: str,
) -> Checked:
    """Run a model and compare it with the reference.

    Args:
        sets: as for :func:`expect`.
        detector: its calibration and prior are used.
        batch_size: largest number of slices in a batch.
        source: the source of the slices, for the record.
    """
    peaks, found = _run_sets(session, sets, detector, batch_size)
    wanted = {
        study: probabilities(peak, detector.in_session) for study, peak in expected.peaks.items()
    }
    p, q = _stacked(found), _stacked(wanted)
    difference = np.abs(p - q)
    parity = Parity(
        reference=expected.reference,
        source=source,
        slices=sum(map(len, sets.values())),
        rows=len(sets) * len(detector.group.locations),
        peak=float(np.abs(_stacked(peaks) - _stacked(expected.peaks)).max()),
        probability=float(difference.max()),
        probability_p999=float(np.quantile(difference, 0.999)),
        changed_rows=int((p.argmax(axis=2) != q.argmax(axis=2)).sum()),
        metric=None,  # computed for whole variants: export/verification/challenge_metric.py
        device=session.device,
        hardware=this_machine().describe(session.device),
        ms_per_slice=_ms_per_slice(session, sets, batch_size),
    )
    return Checked(peaks, parity)


def faults(parity: Parity, limits: Limits) -> list[str]:
    """The differences of one model that exceed a limit or are not a number, in words."""
    compared = (
        ("peaks by", parity.peak, limits.peak),
        ("probabilities by", parity.probability, limits.probability),
        ("99.9 % of them by up to", parity.probability_p999, limits.probability_p999),
    )
    return [
        f"{what} {value:.2g} (limit {limit:g})"
        for what, value, limit in compared
        if not value <= limit  # also for NaN
    ]


def require_parity(parity: Parity, limits: Limits, name: str) -> None:
    """Check the limits of one model.

    Raises:
        VerificationError: it exceeds one.
    """
    if found := faults(parity, limits):
        raise VerificationError(
            f"{name} differs from {parity.reference} on {parity.slices} slices: " + "; ".join(found)
        )


def _run_sets(
    session: Session, sets: Sets, detector: Detector, batch_size: int
) -> tuple[Peaks, dict[str, NDArray[np.float64]]]:
    """Peaks (C,) and probabilities (L, 3) of each study, combined as in the runtime."""
    names, images = list(sets), list(sets.values())
    peaks: Peaks = {}
    found: dict[str, NDArray[np.float64]] = {}
    for spans in pack(enumerate(map(len, images)), batch_size):
        slices = np.concatenate([images[span.of][span.start : span.stop] for span in spans])
        owner = np.repeat(np.arange(len(spans)), [span.stop - span.start for span in spans])
        outputs = session.run(slices, owner == np.arange(len(spans))[:, None])
        for row, span in enumerate(spans):
            name = names[span.of]
            whole = span.stop - span.start == len(images[span.of])
            peaks[name] = np.maximum(peaks.get(name, outputs.peak[row]), outputs.peak[row])
            found[name] = (
                outputs.probability[row].astype(np.float64)
                if whole
                else probabilities(peaks[name], detector.in_session)
            )
    return peaks, found


def _ms_per_slice(session: Session, sets: Sets, batch_size: int) -> float:
    """Median time of a full batch per slice, with ``session.ahead`` batches in flight."""
    some = next(iter(sets.values()))[:batch_size]
    slices = np.resize(some, (batch_size, *some.shape[1:]))
    member = np.ones((1, batch_size), bool)
    session.run(slices, member)
    times = []
    for _ in range(TIMED_ROUNDS):
        start = time.perf_counter()
        waits = [session.start(slices, member) for _ in range(session.ahead)]
        for wait in waits:
            wait()
        times.append((time.perf_counter() - start) / session.ahead)
    return MILLISECONDS * float(np.median(times)) / batch_size


def _stacked(by_study: Mapping[str, NDArray[np.floating]]) -> NDArray[np.floating]:
    return np.stack(list(by_study.values()))
