"""The float32 score graph in another precision: a table of transformations.

fp32 and bf16 compute what the graph computes: opset 18 has no convolution in bfloat16, which is a
mode of the runtime (OpenVINO). fp16 and int8 are written into the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.graph.float16 import to_half
from rsna_lumbar.export.graph.int8 import quantise
from rsna_lumbar.export.graph.onnx_edit import read_graph, write_graph
from rsna_lumbar.runtime.core.errors import UsageError

Slices = NDArray[np.uint8]
Transformation = Callable[[bytes, str, Slices | None], bytes]


def graph_in(precision: str, graph: bytes, *, scheme: str, calibration: Slices | None) -> bytes:
    """Bring a score graph into a precision.

    Args:
        precision: one of ``TRANSFORMATIONS``.
        graph: the float32 ONNX file.
        scheme: one of ``rsna_lumbar.export.graph.int8.SCHEMES``; for int8.
        calibration: slices (N, S, S) of the group; for int8.

    Raises:
        UsageError: int8 without slices, or with too few.
        ExportError: the graph cannot be brought into it.
    """
    return TRANSFORMATIONS[precision](graph, scheme, calibration)


def _float32(graph: bytes, _scheme: str, _calibration: Slices | None) -> bytes:
    return write_graph(read_graph(graph))


def _half(graph: bytes, _scheme: str, _calibration: Slices | None) -> bytes:
    return to_half(graph)


def _int8(graph: bytes, scheme: str, calibration: Slices | None) -> bytes:
    if calibration is None:
        raise UsageError(
            "int8 needs slices to calibrate on; name a DICOM folder with --calibration-data"
        )
    return quantise(graph, calibration, scheme=scheme)


TRANSFORMATIONS: Mapping[str, Transformation] = {
    "fp32": _float32,
    "bf16": _float32,
    "fp16": _half,
    "int8": _int8,
}
