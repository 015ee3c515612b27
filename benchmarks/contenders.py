"""What is compared: ways from the square slices of a series to its class peaks.

Each contender is opened once, outside the clock, and then called with slices (n, S, S) uint8. It
returns the peak of each class over the series, (C,) float32 in canonical order. Everything that it
needs from uint8 slices on is inside the clock: conversion, forward pass, reduction.
"""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.checkpoint import Checkpoint
from rsna_lumbar.export.reference import BOX_ROWS, batch_peaks
from rsna_lumbar.export.rewrite import rewrite
from rsna_lumbar.export.score_graph import export_score_graph
from rsna_lumbar.runtime.backends import load_backend
from rsna_lumbar.runtime.bundle import Detector, Model, Parity
from rsna_lumbar.runtime.grading import Calibration
from rsna_lumbar.runtime.preprocess import Preprocessing

Peaks = NDArray[np.float32]
Slices = NDArray[np.uint8]
ScoreSeries = Callable[[Slices], Peaks]

WHITE = np.float32(255)
LOWEST_CONFIDENCE = 1e-3  # of ultralytics' predict, as its own validation uses
BASELINE = "PyTorch forward"
OURS = "score graph, ONNX Runtime"


@dataclass(frozen=True, slots=True)
class Work:
    """What every contender is given."""

    checkpoint: Checkpoint
    size_px: int
    batch_size: int
    threads: int
    folder: Path  # for files made on the way


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
def score_graph(work: Work) -> Iterator[ScoreSeries]:
    """Our score graph on ONNX Runtime, as rsna-run opens it."""
    group = work.checkpoint.group
    content = export_score_graph(
        rewrite(work.checkpoint),
        group,
        work.size_px,
        preprocessing=Preprocessing(),
        versions={},
    )
    model = Model("", "", "onnxruntime", "any", "fp32", "", Parity(0, 0, 1, "benchmark"))
    prior = ((1 / 3, 1 / 3, 1 / 3),) * len(group.locations)
    detector = Detector(group, work.size_px, Calibration(), prior, "maximum", (model,))
    backend = load_backend("onnxruntime")
    with backend.open_session(
        content, detector=detector, device="cpu", threads=work.threads
    ) as session:
        yield _by_batch(
            work, lambda slices: session.run(slices, np.ones((1, len(slices)), bool)).peak[0]
        )


CONTENDERS: Mapping[str, Callable[[Work], Any]] = {
    BASELINE: pytorch_forward,
    "PyTorch forward, batch norms fused": pytorch_fused,
    "ultralytics predict": ultralytics_predict,
    "ultralytics ONNX, ONNX Runtime": ultralytics_onnx,
    OURS: score_graph,
}


def _by_batch(work: Work, peaks: ScoreSeries) -> ScoreSeries:
    """Score a series batch by batch and take the maximum."""

    def score(series: Slices) -> Peaks:
        starts = range(0, len(series), work.batch_size)
        parts = [peaks(series[start : start + work.batch_size]) for start in starts]
        return np.asarray(np.max(parts, axis=0), np.float32)

    return score
