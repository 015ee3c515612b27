"""What is compared: ways from the square slices of a series to its class peaks.

Each contender is opened once, outside the clock, and then called with slices (n, S, S) uint8. It
returns the peak of each class over the series, (C,) float32 in canonical order. Everything that it
needs from uint8 slices on is inside the clock: conversion, forward pass, reduction.
"""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.engines import (
    Pair,
    ScoreGraphs,
    float32_graph,
    plain_detector,
    title,
)
from rsna_lumbar.export.checkpoint import Checkpoint
from rsna_lumbar.export.int8 import LEAST_SLICES
from rsna_lumbar.export.random_weights import textured_slices
from rsna_lumbar.export.reference import BOX_ROWS, batch_peaks
from rsna_lumbar.runtime.machine import CPU

Peaks = NDArray[np.float32]
Slices = NDArray[np.uint8]
ScoreSeries = Callable[[Slices], Peaks]

WHITE = np.float32(255)
LOWEST_CONFIDENCE = 1e-3  # of ultralytics' predict, as its own validation uses
# Of int8. Timing does not depend on them, and the series that is timed is of another seed.
CALIBRATION_SLICES, CALIBRATION_SEED = LEAST_SLICES, 2


@dataclass(frozen=True, eq=False, slots=True)
class Work:
    """What every contender is given."""

    checkpoint: Checkpoint
    graphs: ScoreGraphs
    size_px: int
    batch_size: int
    threads: int
    folder: Path  # for files made on the way


Open = Callable[[Work], AbstractContextManager[ScoreSeries]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to compare, in the precision that its network computes in."""

    name: str
    precision: str
    open: Open

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


def make_work(
    checkpoint: Checkpoint, *, size_px: int, batch_size: int, threads: int, folder: Path
) -> Work:
    """Export the float32 score graph; other precisions are made when a contender is opened."""
    graphs = ScoreGraphs(
        float32_graph(checkpoint, size_px),
        plain_detector(checkpoint, size_px),
        textured_slices(CALIBRATION_SLICES, size_px, seed=CALIBRATION_SEED),
    )
    return Work(checkpoint, graphs, size_px, batch_size, threads, folder)


@contextmanager
def pytorch_forward(work: Work) -> Iterator[ScoreSeries]:
    """The unmodified network as it was saved: forward pass, maximum over anchors."""
    yield _by_batch(work, lambda slices: batch_peaks(work.checkpoint, slices).max(axis=0))


@contextmanager
def pytorch_fused(work: Work) -> Iterator[ScoreSeries]:
    """The same with ultralytics' own fusing of batch norms, which ``predict`` does too."""
    network: Any = copy.deepcopy(work.checkpoint.network)
    fused = replace(work.checkpoint, network=network.fuse(verbose=False).eval())
    yield _by_batch(work, lambda slices: batch_peaks(fused, slices).max(axis=0))


@contextmanager
def ultralytics_predict(work: Work) -> Iterator[ScoreSeries]:
    """``YOLO.predict`` with its box decode and NMS; the highest confidence of each class.

    It keeps one class an anchor, so its peaks are not those of the forward pass.
    """
    from ultralytics.models import YOLO

    model: Any = YOLO(work.checkpoint.path)
    order = list(work.checkpoint.order)

    def peaks(slices: Slices) -> Peaks:
        images = [np.repeat(one[:, :, None], work.checkpoint.channels, axis=2) for one in slices]
        found = np.zeros(len(order), np.float32)
        for result in model.predict(
            images,
            imgsz=work.size_px,
            batch=len(images),
            conf=LOWEST_CONFIDENCE,
            device="cpu",
            verbose=False,
        ):
            boxes = result.boxes
            np.maximum.at(found, boxes.cls.int().numpy(), boxes.conf.numpy())
        return found[order]

    yield _by_batch(work, peaks)


@contextmanager
def ultralytics_onnx(work: Work) -> Iterator[ScoreSeries]:
    """ultralytics' own ONNX export in ONNX Runtime; maximum over anchors in numpy."""
    import onnxruntime as ort
    from ultralytics.models import YOLO

    weights = Path(shutil.copy(work.checkpoint.path, work.folder / "own_export.pt"))
    model: Any = YOLO(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own age
        # Unsimplified: ONNX Runtime folds and fuses the same when it opens the file.
        path = model.export(format="onnx", imgsz=work.size_px, dynamic=True, simplify=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = work.threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    order = list(work.checkpoint.order)

    def peaks(slices: Slices) -> Peaks:
        grey = slices[:, None].astype(np.float32) / WHITE  # (N, 1, S, S)
        images = np.repeat(grey, work.checkpoint.channels, axis=1)
        (scores,) = session.run(None, {"images": images})  # (N, 4 + C, A)
        return np.asarray(scores[:, BOX_ROWS:].max(axis=(0, 2))[order], np.float32)

    yield _by_batch(work, peaks)


@contextmanager
def score_graph(pair: Pair, work: Work) -> Iterator[ScoreSeries]:
    """Our score graph on the CPU, in a format and precision, as rsna-run opens it."""
    with work.graphs.built(pair).open(device=CPU, threads=work.threads) as session:
        yield _by_batch(
            work, lambda slices: session.run(slices, np.ones((1, len(slices)), bool)).peak[0]
        )


BASELINE = Contender("PyTorch forward", "fp32", pytorch_forward)
OURS: tuple[Pair, ...] = (
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
CONTENDERS = (
    BASELINE,
    Contender("PyTorch forward, batch norms fused", "fp32", pytorch_fused),
    Contender("ultralytics predict", "fp32", ultralytics_predict),
    Contender("ultralytics ONNX, ONNX Runtime", "fp32", ultralytics_onnx),
    *(Contender(title(pair), pair[1], partial(score_graph, pair)) for pair in OURS),
)


def _by_batch(work: Work, peaks: ScoreSeries) -> ScoreSeries:
    """Score a series batch by batch and take the maximum."""

    def score(series: Slices) -> Peaks:
        starts = range(0, len(series), work.batch_size)
        parts = [peaks(series[start : start + work.batch_size]) for start in starts]
        return np.asarray(np.max(parts, axis=0), np.float32)

    return score
