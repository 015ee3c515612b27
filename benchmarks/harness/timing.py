"""Timing in turns, so that a noisy moment hits every contender, and statistics of the samples."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key")
Found = TypeVar("Found")
Samples = NDArray[np.float64]  # (rounds,)
# Before each sample: threads of the previous contender spin for a few milliseconds after its end.
# Without a pause PyTorch took 8 % longer right after ONNX Runtime.
PAUSE_S = 0.02
LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """Statistics of samples, in their unit."""

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
    return Summary(*np.percentile(samples, (50, 95, 99, 0, 100)).tolist())


def ratios(baseline: Samples, other: Samples) -> Summary:
    """Time of the baseline over the time of the other in the same round.

    The median of these ratios is not the ratio of the medians: a disturbance slows down both times
    of its round.
    """
    return summary(baseline / other)


def warm_up(contenders: Iterable[Callable[[], object]]) -> float:
    """Call each once; return the seconds that a round of them took."""
    return sum(map(seconds, contenders))


def rounds_within(limit_s: float, round_s: float, *, wanted: int) -> int:
    """Rounds that fit into a time: at most those wanted, at least ``LEAST_ROUNDS``."""
    if round_s * wanted <= limit_s:
        return wanted
    return min(wanted, max(LEAST_ROUNDS, int(limit_s / round_s)))


def in_turns(
    contenders: Mapping[Key, Callable[[], Found]],
    *,
    rounds: int,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[Key, list[Found]]:
    """Call every contender once a round; return its results by round.

    The order is another one in each round, and the same in every run. A rotation would not do: each
    contender would always follow the same neighbour, and find its heat and caches.

    Args:
        contenders: the functions to call.
        rounds: calls of each.
        progress: called with 1 after every round.
    """
    shuffled = random.Random(0)
    found: dict[Key, list[Found]] = {key: [] for key in contenders}
    for _ in range(rounds):
        for key in shuffled.sample(list(contenders), len(contenders)):
            found[key].append(contenders[key]())
        progress(1)
    return found


def interleaved(
    contenders: Mapping[Key, Callable[[], object]],
    *,
    rounds: int,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[Key, Samples]:
    """Seconds of every contender in turns, (rounds,) for each.  Nothing is warmed up."""
    timed = {key: partial(_rested_seconds, call) for key, call in contenders.items()}
    found = in_turns(timed, rounds=rounds, progress=progress)
    return {key: np.array(samples) for key, samples in found.items()}


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _rested_seconds(call: Callable[[], object]) -> float:
    time.sleep(PAUSE_S)
    return seconds(call)
