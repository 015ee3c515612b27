"""The float32 score graph in another precision.

fp32 and bf16 have the same graph: opset 18 has no convolution in bfloat16, which is a mode of the
runtime (OpenVINO). fp16 and int8 are written into the graph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.graph.float16 import to_half
from rsna_lumbar.export.graph.int8 import quantise
from rsna_lumbar.export.graph.onnx_edit import read_graph, write_graph
from rsna_lumbar.runtime.bundle.records import PRECISIONS
from rsna_lumbar.runtime.core.errors import UsageError


def graph_in(
    precision: str, graph: bytes, *, scheme: str, calibration: NDArray[np.uint8] | None
) -> bytes:
    """Convert a score graph to a precision.

    Args:
        precision: one of ``PRECISIONS``.
        graph: the float32 ONNX file.
        scheme: one of ``rsna_lumbar.export.graph.int8.SCHEMES``; for int8.
        calibration: slices (N, S, S) of the group; for int8.

    Raises:
        UsageError: int8 without slices, or with too few.
        ExportError: the graph cannot be converted.
    """
    assert precision in PRECISIONS
    if precision == "fp16":
        return to_half(graph)
    if precision != "int8":
        return write_graph(read_graph(graph))
    if calibration is None:
        raise UsageError("int8 needs slices to calibrate on: give --calibration-data DIR")
    return quantise(graph, calibration, scheme=scheme)
