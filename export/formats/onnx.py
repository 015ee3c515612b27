"""The score graph itself, for ONNX Runtime on CPUs and on CUDA."""

from __future__ import annotations

from rsna_lumbar.export.formats import BuildOptions, Built, BuiltFile, Report
from rsna_lumbar.runtime.bundle.records import ANY_TARGET

PRECISIONS = ("fp32", "fp16", "int8")
INT8_SCHEME = "U8S8"


def require(name: str, options: BuildOptions) -> None:
    """Nothing beyond what made the graph is needed."""


def build(name: str, graph: bytes, precision: str, options: BuildOptions, report: Report) -> Built:
    """One file: the graph."""
    return Built((BuiltFile(".onnx", graph),), ANY_TARGET, None)
