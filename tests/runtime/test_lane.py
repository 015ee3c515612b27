"""One thread computes, for all sessions; the caller goes on meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import warnings

import numpy as np
import pytest
from ending import DEADLINE_S

from rsna_lumbar.runtime.backends import Outputs
from rsna_lumbar.runtime.backends.lane import LaneSession
from rsna_lumbar.runtime.core.errors import BackendError, OutOfMemory

SLICES, MEMBER = np.zeros((1, 2, 2), np.uint8), np.ones((1, 1), bool)
NOTHING = np.empty((1, 0))


class Slow(LaneSession):
    """Computes when it is allowed to."""

    def __init__(self) -> None:
        self.allowed = threading.Event()
        self.threads: list[int] = []

    def infer(self, slices: np.ndarray, member: np.ndarray) -> Outputs:
        self.threads.append(threading.get_ident())
        assert self.allowed.wait(DEADLINE_S)
        return Outputs(NOTHING, NOTHING, NOTHING, NOTHING)

    def close(self) -> None:
        raise BackendError("closed")


def test_one_batch_at_a_time_beside_the_caller() -> None:
    one, other = Slow(), Slow()
    first, second = one.start(SLICES, MEMBER), other.start(SLICES, MEMBER)
    other.allowed.set()
    assert other.threads == []  # waits for the other session's batch
    one.allowed.set()
    assert first() is not second()
    assert one.threads == other.threads != [threading.get_ident()]


def test_an_error_comes_where_it_is_waited_for() -> None:
    class Broken(Slow):
        def infer(self, slices: np.ndarray, member: np.ndarray) -> Outputs:
            raise BackendError("broken")

    wait = Broken().start(SLICES, MEMBER)
    with pytest.raises(BackendError, match="broken"):
        wait()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (AssertionError("the session is closed"), AssertionError, "^the session is closed$"),
        (RuntimeError("bad graph"), BackendError, "^Trial failed on cpu: bad graph$"),
        (RuntimeError("bad_alloc"), OutOfMemory, "^Trial failed on cpu: bad_alloc$"),
    ],
)
def test_only_errors_of_the_library_become_errors_of_the_backend(
    error: Exception, kind: type[Exception], words: str
) -> None:
    class Broken(Slow):
        library, device = "Trial", "cpu"

        def infer(self, slices: np.ndarray, member: np.ndarray) -> Outputs:
            raise error

    with pytest.raises(kind, match=words) as caught:
        Broken().run(SLICES, MEMBER)
    assert caught.type is kind


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_a_lane_of_its_own() -> None:
    session = Slow()
    session.allowed.set()
    session.run(SLICES, MEMBER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
        child = os.fork()
    if child == 0:
        signal.alarm(int(DEADLINE_S))
        session.run(SLICES, MEMBER)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
