"""Interleaved timing: every contender once a round, so that a noisy moment hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.contenders import (
    BASELINE,
    CONTENDERS,
    Contender,
    Peaks,
    ScoreSeries,
    Slices,
    Work,
)
from rsna_lumbar.runtime.errors import BackendError, UsageError
from rsna_lumbar.runtime.grading import Calibration, probabilities

Samples = NDArray[np.float64]  # (rounds,) milliseconds


@dataclass(frozen=True, slots=True)
class Row:
    """One contender at one size. Milliseconds; ratios are BASELINE's time over this one's."""

    contender: str
    precision: str
    size_px: int
    slice_median_ms: float
    slice_p95_ms: float
    series_median_ms: float
    series_p95_ms: float
    ratio: float  # median over rounds of the ratio in the same round, per slice
    ratio_low: float  # smallest of a round
    ratio_high: float  # largest of a round
    largest_difference: float  # of a probability of the series, from BASELINE


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows in the order of the contenders, and those that cannot be had here."""

    rows: tuple[Row, ...]
    missing: Mapping[Contender, str]  # why


def compare(
    work: Work,
    series: Slices,
    *,
    rounds: int,
    progress: Callable[[int], object],
    contenders: Sequence[Contender] = CONTENDERS,
) -> Comparison:
    """Time contenders on one batch and on one series, in interleaved rounds.

    Args:
        work: checkpoint, size and batch.
        series: (n, S, S) uint8, n at least the batch size.
        rounds: how often each is timed, after one round of warm-up.
        progress: called with 1 after every round.
        contenders: BASELINE among them. One whose library, device or precision cannot be had here
            is named with the reason.
    """
    with ExitStack() as stack:
        opened, missing = _open(contenders, work, stack)
        answers = {one: score(series) for one, score in opened.items()}  # and the warm-up
        batch = series[: work.batch_size]
        slice_ms = {one: np.empty(rounds) for one in opened}
        series_ms = {one: np.empty(rounds) for one in opened}
        order = list(opened)
        for index in range(rounds):
            turn = index % len(order)  # another one begins each round
            for one in order[turn:] + order[:turn]:
                slice_ms[one][index] = _milliseconds(opened[one], batch) / len(batch)
                series_ms[one][index] = _milliseconds(opened[one], series)
            progress(1)
    rows = (_row(one, work, slice_ms, series_ms[one], _difference(answers, one)) for one in order)
    return Comparison(tuple(rows), missing)


def _open(
    contenders: Sequence[Contender], work: Work, stack: ExitStack
) -> tuple[dict[Contender, ScoreSeries], dict[Contender, str]]:
    opened: dict[Contender, ScoreSeries] = {}
    missing: dict[Contender, str] = {}
    for one in contenders:
        try:
            opened[one] = stack.enter_context(one.open(work))
        except (UsageError, BackendError) as error:
            missing[one] = str(error)
    return opened, missing


def _milliseconds(score: ScoreSeries, slices: Slices) -> float:
    start = time.perf_counter()
    score(slices)
    return 1e3 * (time.perf_counter() - start)


def _difference(answers: Mapping[Contender, Peaks], one: Contender) -> float:
    ours, baseline = (probabilities(answers[key], Calibration()) for key in (one, BASELINE))
    return float(np.abs(ours - baseline).max())


def _row(
    one: Contender,
    work: Work,
    slice_ms: Mapping[Contender, Samples],
    series_ms: Samples,
    difference: float,
) -> Row:
    ratios = slice_ms[BASELINE] / slice_ms[one]
    return Row(
        contender=one.name,
        precision=one.precision,
        size_px=work.size_px,
        slice_median_ms=float(np.median(slice_ms[one])),
        slice_p95_ms=float(np.percentile(slice_ms[one], 95)),
        series_median_ms=float(np.median(series_ms)),
        series_p95_ms=float(np.percentile(series_ms, 95)),
        ratio=float(np.median(ratios)),
        ratio_low=float(ratios.min()),
        ratio_high=float(ratios.max()),
        largest_difference=difference,
    )
