"""The score graph with its network in 8-bit integers, as pairs of QuantizeLinear/DequantizeLinear.

    x ~ scale * (q - zero)        one scale per tensor of activations, and per output channel of
                                  the weights; biases stay float32

ONNX Runtime's quantiser computes the numbers and makes the nodes. This module chooses the tensors,
because engines fuse differently, and ``calibration_ranges.py`` their ranges. Measured with YOLOv8n
at 384 px, batch 16, on one core of a CPU with VNNI and AMX:

    U8S8         after every operator. ONNX Runtime has integer kernels for Conv, Sigmoid, Mul and
                 Add, but fuses none of them: operators left in float32 cost more than they save
                 (10 ms per slice, 25 with convolutions alone, 22 in float32).
    U8S8-fused   only on the inputs of convolutions. OpenVINO and TensorRT compute SiLU in float
                 inside the convolution (7 ms, otherwise 15).
    S8S8         the same with signed activations and no zero points, as TensorRT requires.

Between two convolutions, operators that only move values (MOVES) move integers, all of one scale:
with several scales OpenVINO converts to float and back, and takes 13 ms instead of 7.

The first convolution of U8S8 reads the slices unchanged: they are 8-bit integers of scale 1. Signed
integers would lose half of these steps, so in S8S8 this convolution stays float32. The last
convolutions give float32 logits in all schemes: with 8-bit logits, peaks of different slices, and
so their grades, would become equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from rsna_lumbar.export.graph.calibration_ranges import COMPUTES, MOVES, Ranges, activation_ranges
from rsna_lumbar.export.graph.onnx_edit import (
    consumers,
    insert_after,
    network_nodes,
    read_graph,
    remove_unread,
    rename_inputs,
    write_graph,
)
from rsna_lumbar.runtime.core.errors import UsageError

# Tried on a spinal detector of half YOLOv8n's width, slices spread over 80 studies: 4 and 16 missed
# rare values and changed 4 to 6 % of the grades; 8 (by luck) and 32 to 256 changed at most 1 %.
LEAST_SLICES = 32
RESHAPES = ("Unsqueeze",)
OUTPUT_CHANNEL = 0  # axis of a convolution's kernels


@dataclass(frozen=True, slots=True)
class Scheme:
    """What is quantised, and how."""

    activation: QuantType
    behind: tuple[str, ...]  # operators whose outputs are quantised, whatever reads them
    slices: bool  # whether the first convolution reads integers
    logits: bool  # whether the last convolutions read integers
    integer_moves: bool  # whether the graph moves integers, or leaves that to the engine


SCHEMES: Mapping[str, Scheme] = {
    "U8S8": Scheme(QuantType.QUInt8, COMPUTES, slices=True, logits=False, integer_moves=True),
    "U8S8-fused": Scheme(QuantType.QUInt8, (), slices=True, logits=True, integer_moves=True),
    "S8S8": Scheme(QuantType.QInt8, (), slices=False, logits=True, integer_moves=False),
}


def quantise(graph: bytes, slices: NDArray[np.uint8], *, scheme: str) -> bytes:
    """Convert the network of a float32 score graph to 8-bit integers.

    Args:
        graph: the ONNX file, opset 18.
        slices: (N, S, S) to calibrate on, at least ``LEAST_SLICES``, of many studies.
        scheme: one of ``SCHEMES``.

    Returns:
        The ONNX file; the same bytes for the same graph and slices on the same machine.

    Raises:
        UsageError: too few slices.
        ExportError: the graph has no network, or gives values that are not finite.
    """
    if len(slices) < LEAST_SLICES:
        raise UsageError(
            f"int8 needs at least {LEAST_SLICES} slices of a group to calibrate on, found "
            f"{len(slices)}; give --calibration-data a folder with more studies"
        )
    chosen = SCHEMES[scheme]
    model = read_graph(graph)
    inserted = insert_pairs(model, activation_ranges(model, slices), chosen)
    if chosen.slices:
        read_slices_as_integers(inserted.graph)
    if chosen.integer_moves:
        move_integers(inserted.graph)
    properties = {one.key: one.value for one in model.metadata_props}
    helper.set_model_props(inserted, properties)  # without what the quantiser adds
    return write_graph(inserted)


def insert_pairs(model: onnx.ModelProto, ranges: Ranges, scheme: Scheme) -> onnx.ModelProto:
    """Put Q/DQ pairs on the activations and weights of a scheme."""
    network = network_nodes(model.graph)
    convolutions = integer_convolutions(model.graph, network, scheme)
    chosen = {node.name for node in convolutions}
    reading = sources(network, [node.input[0] for node in convolutions])
    written = [
        node.output[0]
        for node in network
        if node.op_type in scheme.behind and (node.op_type != "Conv" or node.name in chosen)
    ]
    quantiser = _quantiser(model, ranges, scheme)
    for name in dict.fromkeys([*reading, *written]):
        quantiser.quantize_activation_tensor(name)
    for node in convolutions:
        quantiser.quantize_weight_tensor_per_channel(node.input[1], OUTPUT_CHANNEL)
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    result: onnx.ModelProto = quantiser.model.model
    return result


def integer_convolutions(
    graph: onnx.GraphProto, network: Sequence[onnx.NodeProto], scheme: Scheme
) -> list[onnx.NodeProto]:
    """The convolutions that read integers."""
    casts = {name for node in network if node.op_type == "Cast" for name in node.output}
    inside = {node.name for node in network}
    chosen = []
    for node in [one for one in network if one.op_type == "Conv"]:
        first = bool(casts.intersection(sources(network, [node.input[0]])))
        last = any(one.name not in inside for one in consumers(graph.node, node.output[0]))
        if (scheme.slices or not first) and (scheme.logits or not last):
            chosen.append(node)
    return chosen


def sources(network: Sequence[onnx.NodeProto], names: Iterable[str]) -> list[str]:
    """The tensors that these come from, before operators that only move or reshape values."""
    producer = {name: node for node in network for name in node.output}
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        node = producer.get(name)
        if node is None or name in found:
            continue
        if node.op_type == "Concat":
            waiting += node.input
        elif node.op_type in MOVES + RESHAPES:
            waiting.append(node.input[0])
        else:
            found[name] = None
    return sorted(found)


def read_slices_as_integers(graph: onnx.GraphProto) -> None:
    """Remove Cast -> QuantizeLinear of scale 1: the slices are the quantised values already."""
    for cast in [node for node in graph.node if node.op_type == "Cast"]:
        readers = consumers(graph.node, cast.output[0])
        pairs = [node for node in readers if node.op_type == "QuantizeLinear"]
        for pair in pairs:
            rename_inputs(graph.node, pair.output[0], cast.input[0])
            graph.node.remove(pair)
        if pairs:
            graph.node.remove(cast)


def move_integers(graph: onnx.GraphProto) -> None:
    """DequantizeLinear -> move becomes move -> DequantizeLinear; all scales are equal."""
    pairs = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    for move in [node for node in graph.node if node.op_type in MOVES + RESHAPES]:
        moved = list(move.input) if move.op_type == "Concat" else [move.input[0]]
        if not all(name in pairs for name in moved):
            continue
        _, scale, zero = pairs[moved[0]].input
        for place, name in enumerate(moved):
            move.input[place] = pairs[name].input[0]
        for place, name in enumerate(list(move.output)):
            move.output[place] = f"{name}_integer"
            pair = helper.make_node(
                "DequantizeLinear",
                [move.output[place], scale, zero],
                [name],
                name=f"{name}_DequantizeLinear",
            )
            insert_after(graph, move, pair)
            pairs[name] = pair
    remove_unread(graph)


def _quantiser(model: onnx.ModelProto, ranges: Ranges, scheme: Scheme) -> QDQQuantizer:
    limits = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    return QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=scheme.activation,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=["none"],  # nothing by its own choice
        extra_options={
            "ActivationSymmetric": scheme.activation == QuantType.QInt8,
            "WeightSymmetric": True,
            "QuantizeBias": False,
        },
    )
