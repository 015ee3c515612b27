"""Times batches one at a time, and with as many in flight as a session takes."""

from __future__ import annotations

from collections import deque
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.harness.timing import interleaved, warm_up
from rsna_lumbar.runtime.backends import Session, Wait

BATCHES = 8


def measure_throughput(
    session: Session, slices: NDArray[np.uint8], *, rounds: int
) -> dict[int, float]:
    """Run the same batch many times, alone and in flight, in turns.

    Args:
        session: opened.
        slices: (N, S, S), one batch.
        rounds: times of each way, after a warm-up.

    Returns:
        Batches in flight, 1 and what the session takes -> median milliseconds per slice, from
        slices in host memory to results in host memory.
    """
    ways = {ahead: partial(_run, session, slices, ahead) for ahead in {1, session.ahead}}
    warm_up(ways.values())
    samples = interleaved(ways, rounds=rounds)
    count = BATCHES * len(slices)
    return {ahead: 1e3 * float(np.median(found)) / count for ahead, found in samples.items()}


def _run(session: Session, slices: NDArray[np.uint8], ahead: int) -> None:
    """All batches, with so many in flight."""
    member = np.ones((1, len(slices)), bool)
    in_flight = deque[Wait]()
    for _ in range(BATCHES):
        in_flight.append(session.start(slices, member))
        if len(in_flight) >= ahead:
            in_flight.popleft()()
    for wait in in_flight:
        wait()
