"""The score graph against PyTorch: the same slices through both, and the largest differences.

The graph runs as ``rsna-run`` runs it, in ONNX Runtime on the CPU, on batches that hold several
sets; a set larger than a batch is put together from its parts. The other side is the unmodified
network in PyTorch float32 and the numpy reference of the aggregation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.checkpoint import Checkpoint
from rsna_lumbar.export.errors import VerificationError
from rsna_lumbar.export.reference import reference_peaks
from rsna_lumbar.runtime.backends import Session, load_backend
from rsna_lumbar.runtime.batches import pack
from rsna_lumbar.runtime.bundle import Detector, Parity
from rsna_lumbar.runtime.grading import probabilities, set_peaks
from rsna_lumbar.runtime.processes import usable_cores

PEAK_LIMIT = 1e-5
PROBABILITY_LIMIT = 1e-4
BATCH_SIZE = 32
LEAST_SPREAD = 1e-3  # of a class's peaks over the sets' slices, in the class that varies most

Report = Callable[[str], None]
SliceArrays = Sequence[NDArray[np.uint8]]


def verify_model(
    path: Path,
    checkpoint: Checkpoint,
    sets: SliceArrays,
    *,
    detector: Detector,
    source: str,
    report: Report,
    batch_size: int = BATCH_SIZE,
) -> Parity:
    """Compare a score graph with the checkpoint that it was made from.

    Args:
        path: the ONNX file.
        checkpoint: of the same detector.
        sets: arrays (n, S, S) uint8, none empty, at least one.
        detector: calibration and prior to run with.
        source: what the slices are, for the record.
        report: takes a warning where the slices prove little.
        batch_size: most slices in a run of the graph.

    Raises:
        VerificationError: a peak differs by more than 1e-5 or a probability by more than 1e-4.
    """
    slices = np.concatenate(sets)
    slice_peaks = reference_peaks(checkpoint, slices)
    if np.ptp(slice_peaks, axis=0).max() < LEAST_SPREAD:
        report(
            f"Warning: {checkpoint.path.name} gives nearly the same peaks for every slice, so "
            "that this check proves little; is it trained, and are these slices of its kind?"
        )
    owner = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    expected, _ = set_peaks(slice_peaks, owner == np.arange(len(sets))[:, None])
    backend = load_backend("onnxruntime")
    with backend.open_session(
        path.read_bytes(), detector=detector, device="cpu", threads=usable_cores()
    ) as session:
        peaks, probability = _run_sets(session, sets, detector, batch_size)
    parity = Parity(
        peak=_largest(peaks, expected),
        probability=_largest(probability, probabilities(expected, detector.calibration)),
        slices=len(slices),
        source=source,
    )
    _check(parity, path, checkpoint)
    return parity


def _run_sets(
    session: Session, sets: SliceArrays, detector: Detector, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Peaks (sets, C) and probabilities (sets, L, 3) as the runtime puts them together."""
    classes = len(detector.group.classes)
    peaks = np.zeros((len(sets), classes), np.float32)
    probability = np.empty((len(sets), classes // 3, 3))
    for spans in pack(map(len, sets), batch_size):
        slices = np.concatenate([sets[span.index][span.start : span.stop] for span in spans])
        owner = np.repeat(np.arange(len(spans)), [span.stop - span.start for span in spans])
        outputs = session.run(slices, owner == np.arange(len(spans))[:, None])
        for row, span in enumerate(spans):
            peaks[span.index] = np.maximum(peaks[span.index], outputs.peak[row])
            whole = span.stop - span.start == len(sets[span.index])
            probability[span.index] = (
                outputs.probability[row]
                if whole
                else probabilities(peaks[span.index], detector.calibration)
            )
    return peaks, probability


def _largest(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    return float(np.abs(found - expected).max())


def _check(parity: Parity, path: Path, checkpoint: Checkpoint) -> None:
    within = parity.peak <= PEAK_LIMIT and parity.probability <= PROBABILITY_LIMIT
    if not within:  # also where a difference is no number
        raise VerificationError(
            f"the graph of {checkpoint.path} differs from PyTorch on {parity.slices} slices: "
            f"peaks by {parity.peak:.2g} (limit {PEAK_LIMIT:g}), probabilities by "
            f"{parity.probability:.2g} (limit {PROBABILITY_LIMIT:g}); nothing was written"
        )
