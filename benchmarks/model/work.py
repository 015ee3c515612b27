"""What every contender is given, and the files that several of them share."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.model.arithmetic import Arithmetic, arithmetic_of
from rsna_lumbar.benchmarks.model.engines import ScoreGraphs, float32_graph, plain_detector
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.graph.int8 import LEAST_SLICES
from rsna_lumbar.runtime.backends.openvino_library import load_openvino

Peaks = NDArray[np.float32]
Slices = NDArray[np.uint8]
ScoreSeries = Callable[[Slices], Peaks]
# Unsimplified: ONNX Runtime folds and fuses the same when it opens the file.
EXPORT: Mapping[str, Mapping[str, bool]] = {"onnx": {"simplify": False}, "openvino": {}}
# Of int8. Timing does not depend on them, and the series that is timed is of another seed.
CALIBRATION_SLICES, CALIBRATION_SEED = LEAST_SLICES, 2


@dataclass(frozen=True, eq=False, slots=True)
class OwnExports:
    """What ultralytics makes of a checkpoint for one size, each format once."""

    checkpoint: Checkpoint
    size_px: int
    folder: Path
    _made: dict[str, Path] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """The file of its format ``onnx``, or the XML file of ``openvino``; any batch.

        Raises:
            UsageError: OpenVINO is not installed.
        """
        if name not in self._made:
            self._made[name] = self._export(name)
        return self._made[name]

    def _export(self, name: str) -> Path:
        from ultralytics.models import YOLO

        if name == "openvino":
            load_openvino()  # before ultralytics does, so without its telemetry
        copy = self.folder / f"own_{name}_{self.size_px}.pt"
        model: Any = YOLO(Path(shutil.copy(self.checkpoint.path, copy)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns of its own age
            made = model.export(format=name, imgsz=self.size_px, dynamic=True, **EXPORT[name])
        path = Path(made)
        return next(path.glob("*.xml")) if path.is_dir() else path


@dataclass(frozen=True, eq=False, slots=True)
class Work:
    """What every contender is given; ``replace`` gives it another batch size, files are shared."""

    checkpoint: Checkpoint
    graphs: ScoreGraphs
    exports: OwnExports
    size_px: int
    batch_size: int
    series_slices: int
    threads: int
    whole: Arithmetic  # of a slice, in ultralytics' own export
    scored: Arithmetic  # of a slice, in the score graph

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Of the batches that will come, for what is compiled for a size."""
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
    """Export the float32 score graph; other precisions are made when a contender is opened."""
    graph = float32_graph(checkpoint, size_px)
    graphs = ScoreGraphs(
        graph,
        plain_detector(checkpoint, size_px),
        textured_slices(CALIBRATION_SLICES, size_px, seed=CALIBRATION_SEED),
    )
    exports = OwnExports(checkpoint, size_px, folder)
    image = (1, checkpoint.channels, size_px, size_px)
    return Work(
        checkpoint,
        graphs,
        exports,
        size_px,
        batch_size,
        series_slices,
        threads,
        whole=arithmetic_of(exports.path("onnx").read_bytes(), {"images": image}),
        scored=arithmetic_of(graph, {"slices": (1, size_px, size_px), "member": (1, 1)}),
    )


def by_batch(work: Work, peaks: ScoreSeries) -> ScoreSeries:
    """Score a series batch by batch and take the maximum."""

    def score(series: Slices) -> Peaks:
        starts = range(0, len(series), work.batch_size)
        parts = [peaks(series[start : start + work.batch_size]) for start in starts]
        return np.asarray(np.max(parts, axis=0), np.float32)

    return score
