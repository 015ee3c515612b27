"""OpenVINO's own format: the graph as XML, and its weights.

float32 and bfloat16 are the same files, since bfloat16 is what the runtime computes in. Half
precision is not offered: on a CPU with AVX-512 FP16 OpenVINO took 27 ms a slice for it, 21 in
float32 and 7 in bfloat16.
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
    """Refuse where OpenVINO is not installed.

    Raises:
        UsageError: it is not.
    """
    load_openvino()


def build(name: str, graph: bytes, precision: str, options: BuildOptions, report: Report) -> Built:
    """Two files: XML and weights, float32 as they are in the graph.

    Raises:
        UsageError: OpenVINO is not installed.
        BuildError: it refuses the graph.
    """
    openvino = load_openvino()
    try:
        model = openvino_core().read_model(graph, b"")
    except RuntimeError as error:
        raise BuildError(f"OpenVINO refuses the graph: {error}", ANY_TARGET) from error
    _name_nodes(model)
    structure, weights = _serialised(openvino, model)
    files = (BuiltFile(".xml", structure), BuiltFile(".bin", weights))
    return Built(files, ANY_TARGET, None)


def _name_nodes(model: Any) -> None:
    """Nodes without a name are numbered by the process; here they are numbered by the graph."""
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}_{index}")


def _serialised(openvino: Any, model: Any) -> tuple[bytes, bytes]:
    """OpenVINO writes to files only: into a private folder, removed after."""
    with tempfile.TemporaryDirectory(prefix="rsna-lumbar-") as folder:
        structure, weights = Path(folder) / "model.xml", Path(folder) / "model.bin"
        try:
            openvino.serialize(model, str(structure), str(weights))
        except RuntimeError as error:  # its own, of C++ streams
            raise ExportError(
                f"OpenVINO cannot write a model into {tempfile.gettempdir()} ({error}): make room "
                "there, or set TMPDIR to a folder that has some"
            ) from error
        return structure.read_bytes(), weights.read_bytes()
