"""Inference backends: a table of names, one small module each, behind one narrow protocol.

A backend module has ``open_session(content, *, detector, device, threads)``; what it returns runs
the score graph and is closed after. Modules are imported when chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.bundle import Detector
from rsna_lumbar.runtime.errors import UsageError

BACKENDS = {"onnxruntime": "rsna_lumbar.runtime.backends.onnxruntime"}


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the score graph returns for G sets and C classes (L = C / 3 locations).

    ``slice`` and ``cell`` say where each peak came from: the index in the batch, and the index
    into the flattened P3, P4 and P5 grids; -1 for a set without slices.
    """

    peak: NDArray[np.float32]  # (G, C)
    probability: NDArray[np.float32]  # (G, L, 3)
    slice: NDArray[np.int64]  # (G, C)
    cell: NDArray[np.int64]  # (G, C)


class Session(Protocol):
    """An opened model."""

    device: str  # where it really runs
    note: str  # why not on the device that ``auto`` tried first; else empty

    def run(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        """Score slices (N, S, S) whose sets are given by member (G, N)."""

    def close(self) -> None:
        """Release the model and its memory."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Backend(Protocol):
    """The module of a backend."""

    def open_session(
        self, content: bytes, *, detector: Detector, device: str, threads: int
    ) -> Session:
        """Open a model file's content on ``auto``, ``cpu`` or ``cuda:N``.

        Raises:
            UsageError: the device cannot be had.
            BackendError: the model cannot be opened.
        """

    def default_batch_size(self, device: str) -> int:
        """Slices in a batch where nobody says otherwise, for a session's device."""


def load_backend(name: str) -> Backend:
    """Import the backend of that name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in BACKENDS:
        raise UsageError(f"no backend {name!r}; there is {', '.join(BACKENDS)}")
    return import_module(BACKENDS[name])
