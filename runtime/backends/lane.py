"""The lane: one thread that all sessions of a process compute in, one batch at a time.

A runtime on the CPU takes all cores for a batch, so two batches at once would fight over them.
Beside the lane the caller decodes, fills the next batch and writes results.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import Outputs, Session, Wait


class LaneSession(Session):
    """A session that computes while it is called, put into the lane."""

    ahead = 2  # the lane never waits: one batch is computed, one stands ready

    @abstractmethod
    def compute(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        """Score one batch, as :meth:`run` does, in the thread of the caller."""

    def start(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Wait:
        return _lanes[0].submit(self.compute, slices, member).result


def _new_lane() -> None:
    _lanes[:] = [ThreadPoolExecutor(1, "lane")]  # which starts its thread with the first batch


_lanes: list[ThreadPoolExecutor] = []
_new_lane()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lane)  # a fork has no threads but its own
