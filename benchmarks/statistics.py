"""Interleaved timing, so that a noisy moment hits every contender, and what the samples say."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key")
Samples = NDArray[np.float64]  # (rounds,)
# Before each sample: threads of the one before spin for a few milliseconds when they are done.
# Without a pause PyTorch took 8 % longer right after ONNX Runtime.
PAUSE_S = 0.02
LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """Of the samples of one thing, in their unit."""

    median: float
    p95: float
    p99: float
    low: float  # smallest sample
    high: float  # largest sample


def summary(samples: Samples) -> Summary:
    """Median, percentiles (linear between samples) and extremes.

    Raises:
        ValueError: there is no sample, or one is not finite.
    """
    if not len(samples) or not np.isfinite(samples).all():
        raise ValueError(f"{len(samples)} samples, of which all must be finite")
    median, p95, p99 = (float(np.percentile(samples, share)) for share in (50, 95, 99))
    return Summary(median, p95, p99, float(samples.min()), float(samples.max()))


def ratios(baseline: Samples, other: Samples) -> Summary:
    """How many times faster than the baseline: its time over the other's in the same round.

    The median of these ratios is not the ratio of the medians: what slows one round down slows both
    of its times down.
    """
    return summary(baseline / other)


def interleaved(
    contenders: Mapping[Key, Callable[[], object]],
    *,
    rounds: int,
    progress: Callable[[int], object] = lambda _: None,
    within_s: float = math.inf,
) -> dict[Key, Samples]:
    """Time every contender once a round, after one call of each that does not count.

    Args:
        contenders: what to call; each round begins with another one.
        rounds: samples of each.
        progress: called with 1 after every round.
        within_s: fewer rounds, but not below ``LEAST_ROUNDS``, where that many would take longer.

    Returns:
        Seconds, (rounds,) for each contender.
    """
    warm_up_s = sum(seconds(call) for call in contenders.values())
    if warm_up_s * rounds > within_s:
        rounds = min(rounds, max(LEAST_ROUNDS, int(within_s / warm_up_s)))
    order = list(contenders)
    found = {key: np.empty(rounds) for key in order}
    for index in range(rounds):
        turn = index % len(order) if order else 0
        for key in order[turn:] + order[:turn]:
            time.sleep(PAUSE_S)
            found[key][index] = seconds(contenders[key])
        progress(1)
    return found


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
