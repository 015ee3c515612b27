"""Interleaved timing, so that a noisy moment hits every contender, and what the samples say."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


def warm_up(contenders: Iterable[Callable[[], object]]) -> float:
    """Call each once; return the seconds that a round of them took."""
    return sum(map(seconds, contenders))


def rounds_within(limit_s: float, round_s: float, *, wanted: int) -> int:
    """As many rounds as fit into a time: at most those wanted, at least ``LEAST_ROUNDS``."""
    if round_s * wanted <= limit_s:
        return wanted
    return min(wanted, max(LEAST_ROUNDS, int(limit_s / round_s)))


def interleaved(
    contenders: Mapping[Key, Callable[[], object]],
    *,
    rounds: int,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[Key, Samples]:
    """Time every contender once a round.  Nothing is warmed up: see ``warm_up``.

    Args:
        contenders: what to call, in each round in another order.
        rounds: samples of each.
        progress: called with 1 after every round.

    Returns:
        Seconds, (rounds,) for each contender.
    """
    found = {key: np.empty(rounds) for key in contenders}
    for index, order in enumerate(orders(list(contenders), rounds)):
        for key in order:
            time.sleep(PAUSE_S)
            found[key][index] = seconds(contenders[key])
        progress(1)
    return found


def orders(items: Sequence[Key], rounds: int) -> Iterator[list[Key]]:
    """The items in another order for each round, the same ones in every run.

    A rotation would not do: each would keep its neighbour, whose heat and caches it then always
    meets.
    """
    shuffled = random.Random(0)
    for _ in range(rounds):
        yield shuffled.sample(items, len(items))


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
