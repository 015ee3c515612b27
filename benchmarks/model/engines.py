"""Score graphs made and opened in a format and precision, as rsna-export and rsna-run do it.

    float32 score graph -> graph in a precision -> model files -> session

The models that are timed are in no bundle: there is no verification, and nothing has to be trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.formats import BACKEND_OF, BuildOptions, load_format
from rsna_lumbar.export.graph.int8 import LEAST_SLICES
from rsna_lumbar.export.graph.precisions import graph_in
from rsna_lumbar.export.graph.rewrite import rewrite
from rsna_lumbar.export.graph.score_graph import export_score_graph
from rsna_lumbar.runtime.backends import Session, SessionSettings, load_backend
from rsna_lumbar.runtime.bundle.records import Detector, Model, ModelFile
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.core.preprocess import Preprocessing

Pair = tuple[str, str]  # format and precision
# For int8. Timing does not depend on them, and the timed slices have other seeds.
CALIBRATION_SLICES, CALIBRATION_SEED = LEAST_SLICES, 2
LIBRARY_OF = {
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
}


OpenSession = Callable[[SessionSettings], Session]


class ScoreGraphs:
    """The float32 score graph of a checkpoint, and the graphs that are made from it, each once."""

    def __init__(
        self, checkpoint: Checkpoint, size_px: int, graph: bytes, build: BuildOptions | None = None
    ) -> None:
        """Keep the graph, with an uncalibrated detector that has the same prior everywhere.

        Args:
            checkpoint: of the graph.
            size_px: side of the slices.
            graph: from :func:`float32_graph`.
            build: for serialized engines.
        """
        group = checkpoint.group
        prior = ((1 / 3, 1 / 3, 1 / 3),) * len(group.locations)
        self._detector = Detector(group, size_px, Calibration(), prior, "maximum", ())
        self._calibration = textured_slices(CALIBRATION_SLICES, size_px, seed=CALIBRATION_SEED)
        self._graph = graph
        self._build = build or BuildOptions()
        self._made: dict[Pair, bytes] = {}

    def built(self, pair: Pair) -> OpenSession:
        """Build a format and precision; return what opens it: the caller closes the session.

        Raises:
            UsageError: the format has no such precision, or its library is not installed; when it
                is opened, the device or the precision is not available here.
            ExportError: the graph cannot be made or built.
            BackendError: when it is opened, the runtime refuses the model.
        """
        name, precision = pair
        target = load_format(name)
        if precision not in target.PRECISIONS:
            raise UsageError(f"{name} has no {precision}, it has {', '.join(target.PRECISIONS)}")
        key = (precision, target.INT8_SCHEME)
        if key not in self._made:
            self._made[key] = graph_in(
                precision, self._graph, scheme=target.INT8_SCHEME, calibration=self._calibration
            )
        built = target.build(name, self._made[key], precision, self._build, lambda _: None)
        files = tuple(ModelFile(f"benchmark{file.suffix}", "") for file in built.files)
        backend = BACKEND_OF[name]
        model = Model(files, backend, built.target, precision, "", built.engine, None)
        contents = tuple(file.content for file in built.files)
        open_session = load_backend(backend).open_session
        return partial(open_session, contents, model, self._detector)


def float32_graph(checkpoint: Checkpoint, size_px: int) -> bytes:
    """The score graph of a checkpoint, with the default preprocessing in its properties."""
    return export_score_graph(
        rewrite(checkpoint),
        checkpoint.group,
        size_px,
        preprocessing=Preprocessing(),
        versions={},
    )


def session_peaks(session: Session, slices: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Peaks over a batch of slices (N, S, S) that are one set, (C,)."""
    found: NDArray[np.float32] = session.run(slices, np.ones((1, len(slices)), bool)).peak[0]
    return found
