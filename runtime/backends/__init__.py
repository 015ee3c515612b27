"""Inference backends: a table of names, one small module each, behind one narrow protocol.

A backend module has ``open_session`` (see :class:`Backend`); what it returns runs the score graph
and is closed after. Modules are imported when chosen, and import their runtime library themselves.

    session.start(slices, member) -> wait         the batch is under way
    wait() -> Outputs                             its answer, in any order of asking
    session.ahead                                 batches worth having under way at a time
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.bundle.records import Detector, Model
from rsna_lumbar.runtime.core.errors import UsageError

NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
BACKENDS = {
    "onnxruntime": "rsna_lumbar.runtime.backends.onnxruntime",
    "openvino": "rsna_lumbar.runtime.backends.openvino",
    "tensorrt": "rsna_lumbar.runtime.backends.tensorrt",
    "tensorrt-rtx": "rsna_lumbar.runtime.backends.tensorrt",
}


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


class Session(ABC):
    """An opened model, with the detector's calibration bound to it; a context manager.

    A session of a GPU starts batches by itself; one that computes where it is called derives from
    :class:`rsna_lumbar.runtime.backends.lane.LaneSession`.
    """

    device: str  # where it really runs: "cpu" or "cuda:N"
    ahead: int  # batches that may usefully be under way at a time

    @abstractmethod
    def start(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Wait:
        """Begin to score slices (N, S, S) whose sets are given by member (G, N).

        Returns:
            What waits for the answer. Neither array may be changed until then.

        Raises:
            BackendError: the runtime failed; here, or when waiting.
        """

    def run(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        """Score one batch and wait for it."""
        return self.start(slices, member)()

    @abstractmethod
    def close(self) -> None:
        """Release the model and its memory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


Wait = Callable[[], Outputs]


class Backend(Protocol):
    """The module of a backend."""

    def open_session(
        self,
        content: Sequence[bytes],
        *,
        model: Model,
        detector: Detector,
        device: str,
        threads: int,
        batch_size: int | None = None,
        options: Mapping[str, str] = NO_OPTIONS,
    ) -> Session:
        """Open the contents of a model's files, hashes checked, on ``cpu`` or ``cuda:N``.

        Args:
            content: of each file of the model.
            model: as the manifest describes it.
            detector: of it.
            device: to run on.
            threads: of the runtime on the CPU.
            batch_size: most slices of a batch, for which a model may then be compiled; None: any.
            options: the runtime library's own, by its names; they come after those set here.

        Raises:
            UsageError: the device or the library cannot be had, or an option is unknown.
            BackendError: the runtime refuses the model.
        """

    def default_batch_size(self, device: str) -> int:
        """Slices in a batch where nobody says otherwise, for a session's device."""


def constant_inputs(detector: Detector) -> dict[str, NDArray[np.float32]]:
    """The small inputs of the score graph that stay the same for a session."""
    calibration = detector.calibration
    return {
        "temperature": np.array([calibration.temperature], np.float32),
        "bias": np.array(calibration.bias, np.float32),
        "floor": np.array([calibration.floor], np.float32),
        "prior": np.array(detector.prior, np.float32),
    }


def load_backend(name: str) -> Backend:
    """Import the backend of that name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in BACKENDS:
        raise UsageError(f"no backend {name!r}; there is {', '.join(BACKENDS)}")
    return import_module(BACKENDS[name])
