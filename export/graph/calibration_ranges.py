"""The ranges that activations are quantised over, seen on calibration slices.

For a tensor x with lowest and highest value lo and hi over all slices:

    plain        [lo, hi], the extremes. What grades a spine is rare: cutting the tails off took up
                 to 8 % of the grades with it, and the best percentile was no better than none.
    moves        tensors joined by operators that only move values (Concat, Split, MaxPool,
                 Resize) take the union of their ranges. One scale lets integers pass through.
    SiLU input   y = x s(x) is flat far below zero. What 8 bits cannot tell from zero at the
                 output is cut off at the input: the lowest b <= -1.28 (the minimum of SiLU)
                 with |b s(b)| <= step / 2, where step is the output's range / 255.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

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
SLICES_A_RUN = 8
SILU_INPUTS = -1.28 - np.arange(0, 40, 0.02)  # candidates for b; its SiLU rises towards zero
ERRORS_ONLY = 3  # ONNX Runtime's log severity


def activation_ranges(model: onnx.ModelProto, slices: NDArray[np.uint8]) -> Ranges:
    """Range of every tensor that the network computes.

    Args:
        model: a float32 score graph, from :func:`rsna_lumbar.export.graph.onnx_edit.read_graph`.
        slices: (N, S, S); read in runs of eight, so that memory does not grow with N.

    Raises:
        ExportError: the network gives values that are no numbers.
    """
    network = network_nodes(model.graph)
    seen = dict(zip(_tensors(network), _extremes(model, network, slices), strict=True))
    for name, (low, high) in seen.items():
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ExportError(f"{name} has values that are no numbers on the calibration slices")
    ranges = united(network, seen)
    ranges.update({node.output[0]: UNIT for node in network if node.op_type == "Sigmoid"})
    ranges.update({node.output[0]: GREY for node in network if node.op_type == "Cast"})
    return {**ranges, **silu_inputs(network, ranges)}


def united(network: Iterable[onnx.NodeProto], ranges: Ranges) -> dict[str, tuple[float, float]]:
    """One range for all tensors that are joined by moves."""
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
    """Ranges of the inputs of x * sigmoid(x), cut where the output is flat."""
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


def _tensors(network: Iterable[onnx.NodeProto]) -> list[str]:
    return [name for one in network if one.op_type in MOVES + COMPUTES for name in one.output]


def _extremes(
    model: onnx.ModelProto, network: list[onnx.NodeProto], slices: NDArray[np.uint8]
) -> list[tuple[float, float]]:
    """(lowest, highest) of each tensor of the network."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = ERRORS_ONLY
    observer = _observer(model, network).SerializeToString()
    session = ort.InferenceSession(observer, options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    runs = np.array([session.run(None, {name: part}) for part in _parts(slices)])  # (R, 2 T)
    lowest, highest = runs[:, ::2].min(axis=0), runs[:, 1::2].max(axis=0)
    return list(zip(lowest.tolist(), highest.tolist(), strict=True))


def _observer(model: onnx.ModelProto, network: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The network alone, with the lowest and the highest value of each tensor as its outputs."""
    observer = onnx.ModelProto()
    observer.CopyFrom(model)
    graph = observer.graph
    read = {name for node in network for name in node.input}
    nodes = [
        helper.make_node(f"Reduce{which}", [name], [f"{name}_{which}"], keepdims=0)
        for name in _tensors(network)
        for which in ("Min", "Max")
    ]
    results = [helper.make_tensor_value_info(one.output[0], TensorProto.FLOAT, []) for one in nodes]
    inputs = [one for one in graph.input if one.name in read]
    for field, content in (
        (graph.node, [*network, *nodes]),
        (graph.output, results),
        (graph.input, inputs),
    ):
        copies = list(content)
        del field[:]
        field.extend(copies)
    return observer


def _parts(slices: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(slices), SLICES_A_RUN):
        yield slices[start : start + SLICES_A_RUN]
