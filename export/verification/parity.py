"""A model against the reference: the same slices through both, and the differences.

The model runs as ``rsna-run`` runs it, on batches that hold several sets; a set larger than a batch
is put together from its parts. The reference is the unmodified network in PyTorch float32 or, on a
machine without the checkpoints, the bundle's own float32 graph on the CPU, which was held to
PyTorch when it was made; either way with the numpy definition of the aggregation behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.verification.data import Sets
from rsna_lumbar.export.verification.limits import Limits
from rsna_lumbar.runtime.backends import Session
from rsna_lumbar.runtime.bundle.records import Detector, Model, Parity
from rsna_lumbar.runtime.core.errors import VerificationError
from rsna_lumbar.runtime.core.postprocess import probabilities, set_peaks
from rsna_lumbar.runtime.inference.batches import pack
from rsna_lumbar.runtime.inference.sessions import default_batch_size, open_model
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.machine import CPU, this_machine

if TYPE_CHECKING:
    from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint

LEAST_SPREAD = 1e-3  # of a class's peaks over the sets' slices, in the class that varies most
TIMED_ROUNDS = 5
MILLISECONDS = 1e3

Report = Callable[[str], None]
SlicePeaks = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Peaks = dict[str, NDArray[np.float32]]  # study id -> (C,) of its set


@dataclass(frozen=True, eq=False, slots=True)
class Expected:
    """What the reference answers on the sets to verify with."""

    reference: str  # as Parity has it
    peaks: Peaks


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A model's answers on the same sets, and how far they are from what was expected."""

    peaks: Peaks
    parity: Parity


def pytorch_peaks(checkpoint: Checkpoint) -> SlicePeaks:
    """The reference itself: slices (N, S, S) -> peaks (N, C) of the unmodified network."""
    from rsna_lumbar.export.checkpoints.reference import reference_peaks

    return lambda slices: reference_peaks(checkpoint, slices)


@contextmanager
def graph_peaks(folder: Path, model: Model, detector: Detector) -> Iterator[SlicePeaks]:
    """The bundle's float32 graph on the CPU in place of PyTorch: each slice a set of its own."""
    size = default_batch_size([model], CPU)
    with open_model(folder, model, detector, device=CPU, threads=usable_cores()) as session:

        def peaks(slices: NDArray[np.uint8]) -> NDArray[np.float32]:
            parts = (slices[start : start + size] for start in range(0, len(slices), size))
            return np.concatenate(
                [session.run(part, np.eye(len(part), dtype=bool)).peak for part in parts]
            )

        yield peaks


def expect(
    slice_peaks: SlicePeaks, sets: Sets, *, reference: str, name: str, report: Report
) -> Expected:
    """Ask the reference.

    Args:
        slice_peaks: of the reference.
        sets: at least one.
        reference: how the manifest names it.
        name: of the detector, for the warning where these slices prove little.
        report: takes that warning.
    """
    by_slice = np.concatenate([slice_peaks(images) for images in sets.values()])
    if np.ptp(by_slice, axis=0).max() < LEAST_SPREAD:
        report(
            f"Warning: {name} gives nearly the same peaks for every slice, so that this check "
            "proves little; is it trained, and are these slices of its kind?"
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
        session: the opened model.
        sets: as for :func:`expect`.
        expected: the reference's answers.
        detector: calibration and prior to run with.
        batch_size: most slices in a run.
        source: what the slices are, for the record.
    """
    peaks, found = _run_sets(session, sets, detector, batch_size)
    wanted = {
        study: probabilities(peak, detector.calibration) for study, peak in expected.peaks.items()
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
        metric=None,  # of a whole variant: export/verification/challenge_metric.py
        device=session.device,
        hardware=this_machine().describe(session.device),
        ms_per_slice=_ms_per_slice(session, sets, batch_size),
    )
    return Checked(peaks, parity)


def faults(parity: Parity, limits: Limits) -> list[str]:
    """What of one model is over the limits, in words; also what is no number."""
    compared = (
        ("peaks by", parity.peak, limits.peak),
        ("probabilities by", parity.probability, limits.probability),
        ("99.9 % of them by up to", parity.probability_p999, limits.probability_p999),
    )
    return [
        f"{what} {value:.2g} (limit {limit:g})"
        for what, value, limit in compared
        if not value <= limit
    ]


def require_parity(parity: Parity, limits: Limits, name: str) -> None:
    """Refuse a model that is over the limits.

    Raises:
        VerificationError: it is.
    """
    found = faults(parity, limits)
    if found:
        raise VerificationError(
            f"{name} differs from {parity.reference} on {parity.slices} slices: " + "; ".join(found)
        )


def _run_sets(
    session: Session, sets: Sets, detector: Detector, batch_size: int
) -> tuple[Peaks, dict[str, NDArray[np.float64]]]:
    """Peaks (C,) and probabilities (L, 3) of each study, as the runtime puts them together."""
    names, images = list(sets), list(sets.values())
    peaks: Peaks = {}
    found: dict[str, NDArray[np.float64]] = {}
    for spans in pack(map(len, images), batch_size):
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
                else probabilities(peaks[name], detector.calibration)
            )
    return peaks, found


def _ms_per_slice(session: Session, sets: Sets, batch_size: int) -> float:
    """Median time of a full batch over its slices, with as many under way as the session likes."""
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
