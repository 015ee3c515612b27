"""The ranges that activations are quantised over, measured on calibration slices.

For a tensor x with lowest value lo and highest value hi over all slices:

    plain        [lo, hi], the extremes. The values that decide a grade are rare: cutting the tails
                 off changed up to 8 % of the grades, and no percentile was better than none.
    moves        tensors joined by operators that only move values (Concat, Split, MaxPool,
                 Resize) get the union of their ranges, so that integers pass with one scale.
    SiLU input   y = x s(x) is flat far below zero. Inputs whose output 8 bits cannot distinguish
                 from zero are cut off: below the lowest b <= -1.28 (the minimum of SiLU) with
                 |b s(b)| <= step / 2, where step is the output's range / 255.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from rsna_lumbar.export.graph.onnx_edit import network_nodes
from rsna_lumbar.runtime.core.errors import ExportError
from rsna_lumbar.runtime.system.cores import usable_cores

Ranges = Mapping[str, tuple[float, float]]

MOVES = ("Concat", "Split", "MaxPool", "Resize")
COMPUTES = ("Conv", "Sigmoid", "Mul", "Add")
GREY = (0.0, 255.0)
UNIT = (0.0, 1.0)  # of a sigmoid
STEPS = 255  # of 8 bits
SLICES_A_RUN = 8  # so that memory does not grow with the number of slices
SILU_INPUTS = -1.28 - np.arange(0, 40, 0.02)  # candidates for b, whose SiLU rises towards zero
ERRORS_ONLY = 3  # ONNX Runtime's log severity


def activation_ranges(model: onnx.ModelProto, slices: NDArray[np.uint8]) -> Ranges:
    """Range of every tensor that the network computes.

    Args:
        model: a float32 score graph, from :func:`rsna_lumbar.export.graph.onnx_edit.read_graph`.
        slices: (N, S, S).

    Raises:
        ExportError: a tensor has values that are not finite.
    """
    network = network_nodes(model.graph)
    tensors = [name for node in network if node.op_type in MOVES + COMPUTES for name in node.output]
    extremes = _extremes(model, tensors, slices)
    for name, found in extremes.items():
        if not np.isfinite(found).all():
            raise ExportError(f"{name} has values that are not finite on the calibration slices")
    ranges = united(network, extremes)
    ranges.update({node.output[0]: UNIT for node in network if node.op_type == "Sigmoid"})
    ranges.update({node.output[0]: GREY for node in network if node.op_type == "Cast"})
    return {**ranges, **silu_inputs(network, ranges)}


def united(network: Iterable[onnx.NodeProto], ranges: Ranges) -> dict[str, tuple[float, float]]:
    """The same range for all tensors that are joined by moves."""
    classes = {name: {name} for name in ranges}
    for node in network:
        if node.op_type in MOVES:
            names = [name for name in (*node.input, *node.output) if name in classes]
            joined = set().union(*(classes[name] for name in names))
            classes.update(dict.fromkeys(joined, joined))
    return {
        name: (min(ranges[one][0] for one in together), max(ranges[one][1] for one in together))
        for name, together in classes.items()
    }


def silu_inputs(
    network: Iterable[onnx.NodeProto], ranges: Ranges
) -> dict[str, tuple[float, float]]:
    """Ranges of the inputs of x * sigmoid(x), cut off where the output is flat."""
    nodes = list(network)
    gates = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Sigmoid"}
    cut = {}
    for node in nodes:
        gated = [gates[name] for name in node.input if name in gates]
        if node.op_type == "Mul" and gated and gated[0] in node.input:
            low, high = ranges[gated[0]]
            cut[gated[0]] = (max(low, _flat_below(*ranges[node.output[0]])), high)
    return cut


def _flat_below(low: float, high: float) -> float:
    step = (high - low) / STEPS
    values = SILU_INPUTS / (1 + np.exp(-SILU_INPUTS))
    flat = SILU_INPUTS[np.abs(values) <= step / 2]
    return float(flat[0]) if len(flat) else -np.inf


def _extremes(
    model: onnx.ModelProto, tensors: list[str], slices: NDArray[np.uint8]
) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each tensor over all slices."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = ERRORS_ONLY
    observer = _observer(model, tensors).SerializeToString()
    session = ort.InferenceSession(observer, options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    runs = np.array(
        [
            session.run(None, {name: slices[start : start + SLICES_A_RUN]})
            for start in range(0, len(slices), SLICES_A_RUN)
        ]
    )  # (R, 2 T)
    lowest, highest = runs[:, ::2].min(axis=0), runs[:, 1::2].max(axis=0)
    return dict(zip(tensors, zip(lowest.tolist(), highest.tolist(), strict=True), strict=True))


def _observer(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """The network alone; its outputs are the lowest and the highest value of each tensor."""
    network = network_nodes(model.graph)
    read = {name for node in network for name in node.input}
    nodes = [
        helper.make_node(f"Reduce{which}", [name], [f"{name}_{which}"], keepdims=0)
        for name in tensors
        for which in ("Min", "Max")
    ]
    graph = helper.make_graph(
        [*network, *nodes],
        "observer",
        [one for one in model.graph.input if one.name in read],
        [helper.make_tensor_value_info(one.output[0], TensorProto.FLOAT, []) for one in nodes],
        initializer=model.graph.initializer,
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
