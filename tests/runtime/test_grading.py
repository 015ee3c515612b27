"""The numpy reference of the aggregation, against loops written from its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rsna_lumbar.runtime.core.postprocess import (
    Calibration,
    combine_detectors,
    probabilities,
    set_peaks,
)

UNIT = st.floats(0, 1, width=32)


@given(
    hnp.arrays(np.float32, (5, 6), elements=UNIT),
    hnp.arrays(np.bool_, st.tuples(st.integers(1, 4), st.just(5))),
)
def test_set_peaks_is_the_loop(slice_peaks: np.ndarray, member: np.ndarray) -> None:
    peaks, where = set_peaks(slice_peaks, member)
    for g in range(len(member)):
        slices = [n for n in range(5) if member[g, n]]
        for c in range(6):
            best = max((slice_peaks[n, c] for n in slices), default=0)
            first = next((n for n in slices if slice_peaks[n, c] == best), -1)
            assert (peaks[g, c], where[g, c]) == (best, first)


def test_a_batch_without_slices_is_empty_sets() -> None:
    peaks, where = set_peaks(np.zeros((0, 6), np.float32), np.zeros((2, 0), bool))
    assert peaks.tolist() == [[0] * 6] * 2
    assert where.tolist() == [[-1] * 6] * 2


@given(
    hnp.arrays(np.float32, 6, elements=UNIT),
    st.floats(0.05, 5),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.floats(1e-6, 0.5),
)
def test_probabilities_are_the_loop(
    peaks: np.ndarray, temperature: float, bias: tuple[float, float, float], floor: float
) -> None:
    got = probabilities(peaks, Calibration(temperature, bias, floor))
    for location in range(2):
        weights = [
            (max(float(peaks[3 * location + k]), floor) ** (1 / temperature)) * math.exp(bias[k])
            for k in range(3)
        ]
        expected = [weight / sum(weights) for weight in weights]
        assert got[location].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_default_divides_by_the_sum() -> None:
    peaks = np.array([0.5, 0.25, 0.25, 0.9, 0.05, 0.05])
    expected = [[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]]
    np.testing.assert_allclose(probabilities(peaks, Calibration()), expected, rtol=1e-12)


def test_detectors_combine_by_maximum_or_mean() -> None:
    peaks = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert combine_detectors(peaks, "maximum").tolist() == [0.6, 0.8]
    assert combine_detectors(peaks, "mean") == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0.01}, {"temperature": math.nan}, {"bias": (0, math.inf, 0)}, {"floor": 0}],
)
def test_calibration_is_checked(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Calibration(**fields)
