"""Inference backends: a table of names, one small module each, all with the same small interface.

A backend module has ``open_session`` (see :class:`Backend`). The session it returns runs the score
graph and must be closed. A backend module is imported when it is chosen, and imports its runtime
library itself.

    session.start(slices, member) -> wait         submits a batch
    wait() -> Outputs                             waits for its result; waits may come in any order
    session.ahead                                 number of batches to keep in flight
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.bundle.records import Detector, Model
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.closing import Closing

OUTPUTS = ("peak", "probability", "slice", "cell")  # of the score graph, in this order
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
BACKENDS = {
    "onnxruntime": "rsna_lumbar.runtime.backends.onnxruntime",
    "openvino": "rsna_lumbar.runtime.backends.openvino",
    "tensorrt": "rsna_lumbar.runtime.backends.tensorrt",
    "tensorrt-rtx": "rsna_lumbar.runtime.backends.tensorrt",
}


@dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs of the score graph for G sets and C classes (L = C / 3 locations).

    ``slice`` and ``cell`` give the origin of each peak: the slice's index in the batch, and the
    index into the flattened P3, P4 and P5 grids. Both are -1 for a set without slices.
    """

    peak: NDArray[np.float32]  # (G, C)
    probability: NDArray[np.float32]  # (G, L, 3)
    slice: NDArray[np.int64]  # (G, C)
    cell: NDArray[np.int64]  # (G, C)


class Session(Closing):
    """A model opened by a backend, with the detector's calibration as input; a context manager.

    A GPU session runs batches asynchronously by itself. A session that computes in the calling
    thread derives from :class:`rsna_lumbar.runtime.backends.lane.LaneSession`.
    """

    device: str  # the device that it really runs on: "cpu" or "cuda:N"
    ahead: int  # number of batches to keep in flight

    @abstractmethod
    def start(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Wait:
        """Begin to score slices (N, S, S) whose sets are given by member (G, N).

        Returns:
            A function that waits for the result. Do not change either array before it returns.

        Raises:
            BackendError: the runtime library failed; raised here or when waiting.
        """

    def run(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        """Score one batch and wait for it."""
        return self.start(slices, member)()

    @abstractmethod
    def close(self) -> None:
        """Release the model and its memory."""


Wait = Callable[[], Outputs]


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How a model is opened."""

    device: str  # "cpu" or "cuda:N"
    threads: int  # of the runtime library on the CPU
    batch_size: int | None = None  # most slices in a batch; it may be compiled for it. None: any
    # of the runtime library, by its names; set after those of this package
    options: Mapping[str, str] = field(default_factory=lambda: NO_OPTIONS)


class Backend(Protocol):
    """The module of a backend."""

    def open_session(
        self, content: Sequence[bytes], model: Model, detector: Detector, settings: SessionSettings
    ) -> Session:
        """Open a model of a detector, given the contents of its files (hashes checked).

        Raises:
            UsageError: the device or the library is not available, or an option is refused.
            BackendError: the runtime library rejects the model.
        """

    def default_batch_size(self, device: str) -> int:
        """Default number of slices in a batch on a session's device."""


def constant_inputs(detector: Detector) -> dict[str, NDArray[np.float32]]:
    """The small inputs of the score graph that are constant for a session."""
    calibration = detector.in_session
    return {
        "temperature": np.array([calibration.temperature], np.float32),
        "bias": np.array(calibration.bias, np.float32),
        "floor": np.array([calibration.floor], np.float32),
        "prior": np.array(detector.prior, np.float32),
    }


def load_backend(name: str) -> Backend:
    """Import the backend with this name.

    Raises:
        UsageError: no backend has this name.
    """
    if name not in BACKENDS:
        raise UsageError(f"no backend {name!r}; there is {', '.join(BACKENDS)}")
    return import_module(BACKENDS[name])
