"""Buffers of a TensorRT session for each batch in flight, and the batch sizes it runs at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import OUTPUTS, Outputs
from rsna_lumbar.runtime.bundle.records import Detector, Engine

STEPS = 8  # sizes are multiples of 1/8 of the largest batch: at most 1/8 of a full run is wasted
DTYPES = {"FLOAT": np.float32, "INT32": np.int32, "INT64": np.int64}  # types of the results


def batch_sizes(engine: Engine) -> tuple[int, ...]:
    """Sizes that batches are rounded up to: powers of two, then eighths of the largest size.

    For 64: 1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64.
    """
    step = ceil(engine.largest_batch / STEPS)
    sizes = {2**k for k in range(step.bit_length()) if 2**k < step}
    sizes |= {min(step * k, engine.largest_batch) for k in range(1, STEPS + 1)}
    return tuple(sorted({max(size, engine.least_batch) for size in sizes}))


@dataclass(slots=True)
class SizedContext:
    """A slot at one batch size."""

    context: Any
    runs: int = 0
    graph: int | None = None

    def close(self) -> None:
        self.context = None


@dataclass(slots=True)
class Slot:
    """Buffers of one batch in flight."""

    slices: NDArray[np.uint8]  # pinned, (largest, S, S)
    member: NDArray[np.bool_]  # pinned, (largest x largest,): a row is as wide as the batch
    outputs: Mapping[str, NDArray[Any]]  # pinned, (largest, ...)
    addresses: Mapping[str, int]  # GPU addresses of all of these buffers
    uploaded: int  # event
    done: int  # event
    contexts: dict[int, SizedContext] = field(default_factory=dict)  # by batch size
    pending: BatchUnderWay | None = None


@dataclass(slots=True)
class BatchUnderWay:
    """A batch in flight, or its result."""

    slot: Slot
    sets: int
    answer: Outputs | None = None


def output_shapes(detector: Detector) -> dict[str, tuple[int, ...]]:
    """Shape of each output without its first dimension, the sets."""
    classes, locations = len(detector.group.classes), len(detector.group.locations)
    shapes = ((classes,), (locations, classes // locations), (classes,), (classes,))
    return dict(zip(OUTPUTS, shapes, strict=True))


def answer_of(outputs: Mapping[str, NDArray[Any]], sets: int) -> Outputs:
    """A copy of the results of the first ``sets`` sets, since the buffers are reused."""
    return Outputs(
        peak=outputs["peak"][:sets].copy(),
        probability=outputs["probability"][:sets].copy(),
        slice=outputs["slice"][:sets].astype(np.int64),
        cell=outputs["cell"][:sets].astype(np.int64),
    )
