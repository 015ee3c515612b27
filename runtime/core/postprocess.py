"""Peaks -> grades: the numpy reference that defines the aggregation.

The score graph computes the same inside the model file, and the tests compare it to this module.
The runtime itself uses this module only if one run of the graph cannot cover everything: for a set
larger than a batch, and for an ensemble.

    peak[g, c]        = max over slices n of set g, over anchors a, of sigmoid(logit[n, c, a])
    probability[g, l] = softmax over grades k of log(max(peak[g, 3 l + k], floor)) / T + bias[k]

For T = 1, bias = 0 and peaks above the floor this is peak / sum of the three peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import GRADES

FloatArray = NDArray[np.floating[Any]]
Combination = Literal["maximum", "mean"]
COMBINATIONS: tuple[Combination, ...] = get_args(Combination)

MINIMUM_TEMPERATURE = 0.05


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the peaks of one group become probabilities. The defaults divide by the sum.

    The default floor is below every meaningful peak of a detector, and above the size that float32
    logits can still resolve.
    """

    temperature: float = 1.0
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    floor: float = 1e-4

    def __post_init__(self) -> None:
        if not MINIMUM_TEMPERATURE <= self.temperature < np.inf:
            raise ValueError(f"temperature must be finite and at least {MINIMUM_TEMPERATURE}")
        if len(self.bias) != len(GRADES) or not np.isfinite(self.bias).all():
            raise ValueError("bias must be three finite numbers")
        if not 0 < self.floor < 1:
            raise ValueError("floor must lie between 0 and 1")


def set_peaks(
    slice_peaks: FloatArray, member: NDArray[np.bool_]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Take the maximum over the slices of each set.

    Args:
        slice_peaks: (N, C), the maximum over anchors for each slice and class.
        member: (G, N), true where slice n belongs to set g.

    Returns:
        Peaks (G, C), 0 for a set without slices; and the index of the slice with each peak (G, C),
        the first one if several are equal, -1 for a set without slices.
    """
    count, classes = slice_peaks.shape
    if count == 0:
        empty = (len(member), classes)
        return np.zeros(empty, slice_peaks.dtype), np.full(empty, -1, np.int64)
    masked = np.where(member[:, :, None], slice_peaks[None], -np.inf)  # (G, N, C)
    filled = np.any(member, axis=1, keepdims=True)  # (G, 1)
    peaks = np.where(filled, masked.max(axis=1), 0).astype(slice_peaks.dtype)
    return peaks, np.where(filled, masked.argmax(axis=1), -1)


def probabilities(peaks: FloatArray, calibration: Calibration) -> NDArray[np.float64]:
    """Peaks (..., C) in canonical class order, 0 to 1 -> (..., C / 3, 3) float64, rows sum to 1."""
    grades = peaks.astype(np.float64).reshape(*peaks.shape[:-1], -1, len(GRADES))
    scores = np.log(np.maximum(grades, calibration.floor)) / calibration.temperature
    scores = scores + np.asarray(calibration.bias)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float64)


def combine_detectors(peaks: FloatArray, combination: Combination) -> FloatArray:
    """Peaks of several detectors on the same set, (detectors, C) -> (C,)."""
    combined = peaks.max(axis=0) if combination == "maximum" else peaks.mean(axis=0)
    return np.asarray(combined, peaks.dtype)
