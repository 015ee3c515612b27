"""The lane: one thread in which all sessions of a process compute, one batch at a time.

A runtime library on the CPU uses all cores for a batch, so two batches at once would compete for
them. While the lane computes, the caller decodes, fills the next batch and writes results.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import Outputs, Session, Wait
from rsna_lumbar.runtime.core.errors import LumbarError, run_failed


class LaneSession(Session):
    """A session that computes synchronously, run in the lane."""

    library: str  # its name in errors
    ahead = 2  # keeps the lane busy: one batch is computed while the next one is ready

    @abstractmethod
    def infer(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        """Score one batch of C-contiguous arrays; may raise any error of the runtime library."""

    def compute(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        """Score one batch in the calling thread, with the same result as :meth:`run`."""
        try:
            return self.infer(np.ascontiguousarray(slices), np.ascontiguousarray(member))
        except (LumbarError, MemoryError, AssertionError):  # an assertion is ours, so a bug
            raise
        except Exception as error:  # the errors of these libraries share no base class
            raise run_failed(f"{self.library} failed on {self.device}: {error}") from error

    def start(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Wait:
        return _lanes[0].submit(self.compute, slices, member).result


def _new_lane() -> None:
    _lanes[:] = [ThreadPoolExecutor(1, "lane")]  # its thread starts with the first batch


_lanes: list[ThreadPoolExecutor] = []
_new_lane()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lane)  # a fork has none of our threads
