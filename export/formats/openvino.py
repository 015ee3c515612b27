"""OpenVINO's own format: the graph as XML, and its weights.

float32 and bfloat16 have the same files, because bfloat16 is a mode of the runtime. float16 is not
offered: on a CPU with AVX-512 FP16, OpenVINO took 27 ms per slice in float16, 21 ms in float32 and
7 ms in bfloat16.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rsna_lumbar.export.formats import BuildOptions, Built, BuiltFile, Report
from rsna_lumbar.runtime.backends.openvino_library import load_openvino, openvino_core
from rsna_lumbar.runtime.bundle.records import ANY_TARGET
from rsna_lumbar.runtime.core.errors import BuildError, ExportError

PRECISIONS = ("fp32", "bf16", "int8")
INT8_SCHEME = "U8S8-fused"


def require(name: str, options: BuildOptions) -> None:
    """Check that OpenVINO is installed.

    Raises:
        UsageError: it is not.
    """
    load_openvino()


def build(name: str, graph: bytes, precision: str, options: BuildOptions, report: Report) -> Built:
    """Two files: XML, and the float32 weights of the graph.

    Raises:
        UsageError: OpenVINO is not installed.
        BuildError: it rejects the graph.
        ExportError: it cannot write into the folder for temporary files.
    """
    openvino = load_openvino()
    try:
        model = openvino_core().read_model(graph, b"")
    except RuntimeError as error:
        raise BuildError(f"OpenVINO rejects the graph: {error}", ANY_TARGET) from error
    _name_nodes(model)
    # OpenVINO writes to files only.
    with tempfile.TemporaryDirectory(prefix="rsna-lumbar-") as folder:
        structure, weights = Path(folder) / "model.xml", Path(folder) / "model.bin"
        try:
            openvino.serialize(model, str(structure), str(weights))
        except RuntimeError as error:  # an error of C++ streams that names no file
            raise ExportError(
                f"OpenVINO cannot write a model into {tempfile.gettempdir()} ({error}): make room "
                "there, or set TMPDIR to another folder"
            ) from error
        files = (
            BuiltFile(".xml", structure.read_bytes()),
            BuiltFile(".bin", weights.read_bytes()),
        )
    return Built(files, ANY_TARGET, None)


def _name_nodes(model: Any) -> None:
    """Number nodes without a name by their place; OpenVINO numbers them by process."""
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}_{index}")
