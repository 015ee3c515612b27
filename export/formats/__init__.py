"""Formats of model files: a table of names, one small module each.

    float32 score graph -> graph in a precision (export/graph/precisions.py) -> model files (here)

A format module has what :class:`Format` lists. It imports its library only when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from rsna_lumbar.runtime.bundle.records import Engine
from rsna_lumbar.runtime.core.errors import UsageError

FORMATS = {
    "onnx": "rsna_lumbar.export.formats.onnx",
    "openvino": "rsna_lumbar.export.formats.openvino",
    "tensorrt": "rsna_lumbar.export.formats.tensorrt",
    "tensorrt-rtx": "rsna_lumbar.export.formats.tensorrt",
}
BACKEND_OF = {**{name: name for name in FORMATS}, "onnx": "onnxruntime"}

Report = Callable[[str], None]  # takes a line of progress


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Settings of serialized engines; the other formats have none."""

    best_batch: int = 16  # batch size that engines are tuned for
    largest_batch: int = 64
    # Such as "8.9". Empty: the GPUs of this machine, or without one all that the builder lists
    # except 7.5.
    compute_capabilities: tuple[str, ...] = ()
    timing_cache: Path | None = None  # read and written by builders that have one
    log: Path | None = None  # the builder's messages are appended here

    def __post_init__(self) -> None:
        if not 1 <= self.best_batch <= self.largest_batch:
            raise UsageError(
                f"an engine cannot be tuned for batches of {self.best_batch} and accept at most "
                f"{self.largest_batch}"
            )


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """Content of one file of a model."""

    suffix: str  # with its dot
    content: bytes


@dataclass(frozen=True, slots=True)
class Built:
    """A model's files in the order in which its backend opens them."""

    files: tuple[BuiltFile, ...]
    target: str  # ANY_TARGET, or the GPUs that it was built for, as in the names of files
    engine: Engine | None


class Format(Protocol):
    """The module of a format. ``name`` matters where a module serves two formats."""

    PRECISIONS: tuple[str, ...]
    INT8_SCHEME: str  # how its int8 graphs are quantised; one of export/graph/int8.py

    def require(self, name: str, options: BuildOptions) -> None:
        """Check, before any work, that this machine can build the format with these options.

        Raises:
            UsageError: its library is not installed, or an option cannot be met.
        """

    def build(
        self, name: str, graph: bytes, precision: str, options: BuildOptions, report: Report
    ) -> Built:
        """Turn a score graph (an ONNX file, already in that precision) into model files.

        Raises:
            UsageError: its library is not installed, or an option cannot be met.
            BuildError: the builder rejects the graph, or its process ended or hangs.
        """


def load_format(name: str) -> Format:
    """Import the module of a format."""
    return import_module(FORMATS[name])
