"""Batches one at a time, and as many under way as a session likes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import Session, Wait

BATCHES = 8
MILLISECONDS = 1e3


@dataclass(frozen=True, slots=True)
class Throughput:
    """Milliseconds a slice, from slices in the host's memory to answers there; medians."""

    alone: float  # each batch waited for before the next begins
    in_flight: float | None  # with ``ahead`` of them under way; None where that is 1
    ahead: int


def measure_throughput(session: Session, slices: NDArray[np.uint8], *, rounds: int) -> Throughput:
    """Run the same batch many times both ways, in interleaved rounds.

    Args:
        session: opened.
        slices: (N, S, S), one batch.
        rounds: how often each way is timed, after a warm-up.
    """
    member = np.ones((1, len(slices)), bool)
    ways = sorted({1, session.ahead})
    for ahead in ways:
        _run(session, slices, member, ahead)
    seconds = [[_run(session, slices, member, ahead) for ahead in ways] for _ in range(rounds)]
    alone, *in_flight = MILLISECONDS * np.median(seconds, axis=0) / (BATCHES * len(slices))
    return Throughput(float(alone), float(*in_flight) if in_flight else None, session.ahead)


def _run(
    session: Session, slices: NDArray[np.uint8], member: NDArray[np.bool_], ahead: int
) -> float:
    """Seconds for all batches with so many under way."""
    under_way = deque[Wait]()
    start = time.perf_counter()
    for _ in range(BATCHES):
        under_way.append(session.start(slices, member))
        if len(under_way) >= ahead:
            under_way.popleft()()
    for wait in under_way:
        wait()
    return time.perf_counter() - start
