"""The input of every contender, and the files that several of them share."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.model.arithmetic import Arithmetic, arithmetic_of
from rsna_lumbar.benchmarks.model.engines import ScoreGraphs, float32_graph
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint
from rsna_lumbar.runtime.backends.openvino_library import load_openvino

import torch  # isort: skip  # after the export package, which sets its switches

Peaks = NDArray[np.float32]
Slices = NDArray[np.uint8]
ScoreSeries = Callable[[Slices], Peaks]
# Unsimplified: ONNX Runtime folds and fuses the same when it opens the file.
EXPORT: Mapping[str, Mapping[str, bool]] = {"onnx": {"simplify": False}, "openvino": {}}


@dataclass(frozen=True, eq=False, slots=True)
class Work:
    """The input of every contender; a ``replace`` with another batch size shares the files."""

    checkpoint: Checkpoint
    graphs: ScoreGraphs
    folder: Path  # of the exports of ultralytics
    size_px: int
    batch_size: int
    series_slices: int
    threads: int
    whole: Arithmetic  # of a slice, in ultralytics' own export
    scored: Arithmetic  # of a slice, in the score graph

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Sizes of the batches to come, for contenders that are compiled for each size."""
        sizes = {self.batch_size, min(self.batch_size, self.series_slices)}
        return tuple(sorted((sizes | {self.series_slices % self.batch_size}) - {0}))


Open = Callable[[Work], AbstractContextManager[ScoreSeries]]


def make_work(
    checkpoint: Checkpoint,
    *,
    size_px: int,
    batch_size: int,
    series_slices: int,
    threads: int,
    folder: Path,
) -> Work:
    """Export the float32 score graph; contenders make other precisions when they are opened."""
    graph = float32_graph(checkpoint, size_px)
    own = own_export(checkpoint, size_px, folder, "onnx").read_bytes()
    image = (1, checkpoint.channels, size_px, size_px)
    return Work(
        checkpoint,
        ScoreGraphs(checkpoint, size_px, graph),
        folder,
        size_px,
        batch_size,
        series_slices,
        threads,
        whole=arithmetic_of(own, {"images": image}),
        scored=arithmetic_of(graph, {"slices": (1, size_px, size_px), "member": (1, 1)}),
    )


def own_export(checkpoint: Checkpoint, size_px: int, folder: Path, name: str) -> Path:
    """The file of ultralytics' own export ``onnx``, or the XML file of ``openvino``.

    Each is made once in a folder, for any batch. On a CPU, ``YOLO.export`` sets the number
    of PyTorch's threads for the whole process (cores - 1, at most 8); that is undone.

    Raises:
        UsageError: OpenVINO is not installed.
    """
    copy = folder / f"own_{name}_{size_px}.pt"
    made = copy.with_suffix(".onnx")
    if name == "openvino":
        load_openvino()  # before ultralytics does, so without its telemetry
        made = folder / f"{copy.stem}_openvino_model" / f"{copy.stem}.xml"
    if not made.exists():
        from ultralytics.models import YOLO

        model: Any = YOLO(Path(shutil.copy(checkpoint.path, copy)))
        threads = torch.get_num_threads()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's exporter warns of its own age
                model.export(format=name, imgsz=size_px, dynamic=True, **EXPORT[name])
        finally:
            torch.set_num_threads(threads)
    return made


def by_batch(work: Work, peaks: ScoreSeries) -> ScoreSeries:
    """Score a series batch by batch and take the maximum."""

    def score(series: Slices) -> Peaks:
        starts = range(0, len(series), work.batch_size)
        parts = [peaks(series[start : start + work.batch_size]) for start in starts]
        return np.asarray(np.max(parts, axis=0), np.float32)

    return score
