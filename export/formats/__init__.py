"""Formats of model files: a table of names, one small module each.

    float32 score graph -> graph in a precision (export/graph/precisions.py) -> model files (here)

A format module has ``PRECISIONS`` and ``build``. Libraries are imported when a format is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from rsna_lumbar.runtime.bundle.records import Engine

FORMATS = {
    "onnx": "rsna_lumbar.export.formats.onnx",
    "openvino": "rsna_lumbar.export.formats.openvino",
    "tensorrt": "rsna_lumbar.export.formats.tensorrt",
    "tensorrt-rtx": "rsna_lumbar.export.formats.tensorrt",
}
BACKEND_OF = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
}

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What serialized engines are built for; other formats have nothing to choose."""

    best_batch: int = 16  # that engines are tuned for
    largest_batch: int = 64
    # Such as "8.9"; empty: the GPU here, without one all that the builder knows but 7.5.
    compute_capabilities: tuple[str, ...] = ()
    timing_cache: Path | None = None  # read and written where the builder has one
    log: Path | None = None  # the builder's own words are appended here


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """Content of one file of a model."""

    suffix: str  # with its dot
    content: bytes


@dataclass(frozen=True, slots=True)
class Built:
    """A model's files in the order in which its backend opens them."""

    files: tuple[BuiltFile, ...]
    target: str  # ANY_TARGET, or what it was built for, as it stands in the file's name
    engine: Engine | None


class Format(Protocol):
    """The module of a format."""

    PRECISIONS: tuple[str, ...]
    # How int8 graphs for it are quantised; see export/graph/int8.py.
    INT8_SCHEME: str

    def require(self, name: str, options: BuildOptions) -> None:
        """Refuse, before any work, what cannot be built on this machine.

        Raises:
            UsageError: its library is not installed, or an option cannot be met.
        """

    def build(
        self, name: str, graph: bytes, precision: str, options: BuildOptions, report: Report
    ) -> Built:
        """Turn a score graph (ONNX, already in that precision) into model files.

        Args:
            name: of the format, where a module serves two.
            graph: the ONNX file.
            precision: one of ``PRECISIONS``.
            options: for engines.
            report: takes a line of progress.

        Raises:
            UsageError: its library is not installed, or an option cannot be met.
            BuildError: the builder refuses the graph, or its process ended or hangs.
        """


def load_format(name: str) -> Format:
    """Import the module of a format."""
    return import_module(FORMATS[name])
