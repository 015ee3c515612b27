"""Interleaved timing: every contender once a round, so that a noisy moment hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.contenders import BASELINE, CONTENDERS, ScoreSeries, Slices, Work
from rsna_lumbar.runtime.grading import Calibration, probabilities

Samples = NDArray[np.float64]  # (rounds,) milliseconds


@dataclass(frozen=True, slots=True)
class Row:
    """One contender at one size. Milliseconds; ratios are BASELINE's time over this one's."""

    contender: str
    size_px: int
    slice_median_ms: float
    slice_p95_ms: float
    series_median_ms: float
    series_p95_ms: float
    ratio: float  # median over rounds of the ratio in the same round, per slice
    ratio_low: float  # smallest of a round
    ratio_high: float  # largest of a round
    largest_difference: float  # of a probability of the series, from BASELINE


def compare(
    work: Work,
    series: Slices,
    *,
    rounds: int,
    progress: Callable[[int], object],
) -> list[Row]:
    """Time all contenders on one batch and on one series, in interleaved rounds.

    Args:
        work: checkpoint, size and batch.
        series: (n, S, S) uint8, n at least the batch size.
        rounds: how often each is timed, after one round of warm-up.
        progress: called with 1 after every round.
    """
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(contender(work)) for name, contender in CONTENDERS.items()
        }
        answers = {name: score(series) for name, score in opened.items()}  # and the warm-up
        batch = series[: work.batch_size]
        slice_ms = {name: np.empty(rounds) for name in opened}
        series_ms = {name: np.empty(rounds) for name in opened}
        names = list(opened)
        for index in range(rounds):
            turn = index % len(names)  # another one begins each round
            for name in names[turn:] + names[:turn]:
                slice_ms[name][index] = _milliseconds(opened[name], batch) / len(batch)
                series_ms[name][index] = _milliseconds(opened[name], series)
            progress(1)
    return [
        _row(name, work, slice_ms, series_ms[name], _difference(answers, name)) for name in opened
    ]


def _milliseconds(score: ScoreSeries, slices: Slices) -> float:
    start = time.perf_counter()
    score(slices)
    return 1e3 * (time.perf_counter() - start)


def _difference(answers: Mapping[str, Any], name: str) -> float:
    ours, baseline = (probabilities(answers[key], Calibration()) for key in (name, BASELINE))
    return float(np.abs(ours - baseline).max())


def _row(
    name: str, work: Work, slice_ms: Mapping[str, Samples], series_ms: Samples, difference: float
) -> Row:
    ratios = slice_ms[BASELINE] / slice_ms[name]
    return Row(
        contender=name,
        size_px=work.size_px,
        slice_median_ms=float(np.median(slice_ms[name])),
        slice_p95_ms=float(np.percentile(slice_ms[name], 95)),
        series_median_ms=float(np.median(series_ms)),
        series_p95_ms=float(np.percentile(series_ms, 95)),
        ratio=float(np.median(ratios)),
        ratio_low=float(ratios.min()),
        ratio_high=float(ratios.max()),
        largest_difference=difference,
    )
