"""Score graphs made and opened in a format and precision, as rsna-export and rsna-run do it.

    float32 score graph -> graph in a precision -> model files -> session

What is timed here never lies in a bundle: there is no verification and no trust to ask for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint
from rsna_lumbar.export.formats import BACKEND_OF, BuildOptions, load_format
from rsna_lumbar.export.graph.precisions import graph_in
from rsna_lumbar.export.graph.rewrite import rewrite
from rsna_lumbar.export.graph.score_graph import export_score_graph
from rsna_lumbar.runtime.backends import Session, load_backend
from rsna_lumbar.runtime.bundle.records import Detector, Model, ModelFile
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.core.preprocess import Preprocessing

Pair = tuple[str, str]  # format and precision
LIBRARY_OF = {
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
}


@dataclass(frozen=True, eq=False, slots=True)
class BuiltModel:
    """A model's files in memory, and what a backend asks for to open them."""

    detector: Detector
    model: Model
    contents: tuple[bytes, ...]

    def open(self, *, device: str, threads: int, batch_size: int | None = None) -> Session:
        """Open it; to be closed by the caller.

        Raises:
            UsageError: the device or the library cannot be had, or not in this precision.
            BackendError: the runtime refuses the model.
        """
        return load_backend(self.model.backend).open_session(
            self.contents,
            model=self.model,
            detector=self.detector,
            device=device,
            threads=threads,
            batch_size=batch_size,
        )


class ScoreGraphs:
    """One float32 score graph, and what is made from it, each precision once."""

    def __init__(
        self,
        graph: bytes,
        detector: Detector,
        calibration: NDArray[np.uint8],
        build: BuildOptions | None = None,
    ) -> None:
        """Keep what everything else is made from.

        Args:
            graph: the ONNX file, float32.
            detector: it belongs to.
            calibration: (N, S, S) uint8 slices to calibrate int8 on.
            build: for serialized engines.
        """
        self.detector = detector
        self._graph = graph
        self._calibration = calibration
        self._build = build or BuildOptions()
        self._made: dict[tuple[str, str], bytes] = {}

    def built(self, pair: Pair) -> BuiltModel:
        """Make the files of a format and precision.

        Raises:
            UsageError: there is no such pair, or its library is not installed.
            ExportError: the graph cannot be made or built.
        """
        name, precision = pair
        target = load_format(name)
        if precision not in target.PRECISIONS:
            raise UsageError(f"{name} has no {precision}, it has {', '.join(target.PRECISIONS)}")
        graph = self._in(precision, target.INT8_SCHEME)
        built = target.build(name, graph, precision, self._build, _silent)
        model = Model(
            files=tuple(ModelFile(f"benchmark{file.suffix}", "") for file in built.files),
            backend=BACKEND_OF[name],
            target=built.target,
            precision=precision,
            weights_sha256="",
            engine=built.engine,
            parity=None,
        )
        return BuiltModel(self.detector, model, tuple(file.content for file in built.files))

    def _in(self, precision: str, scheme: str) -> bytes:
        key = (precision, scheme)
        if key not in self._made:
            self._made[key] = graph_in(
                precision, self._graph, scheme=scheme, calibration=self._calibration
            )
        return self._made[key]


def float32_graph(checkpoint: Checkpoint, size_px: int) -> bytes:
    """The score graph of a checkpoint, with the default preprocessing in its properties."""
    return export_score_graph(
        rewrite(checkpoint),
        checkpoint.group,
        size_px,
        preprocessing=Preprocessing(),
        versions={},
    )


def plain_detector(checkpoint: Checkpoint, size_px: int) -> Detector:
    """A detector that was not calibrated, with the same prior everywhere."""
    group = checkpoint.group
    prior = ((1 / 3, 1 / 3, 1 / 3),) * len(group.locations)
    return Detector(group, size_px, Calibration(), prior, "maximum", ())


def title(pair: Pair) -> str:
    """How tables name what runs a format, such as ``score graph, OpenVINO``."""
    return f"score graph, {LIBRARY_OF[pair[0]]}"


def _silent(_: str) -> None:
    """Progress is of no interest here."""
