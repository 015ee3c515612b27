"""The score graph with its network in half precision, strongly typed.

    slices -> Cast(float16) -> * 2^-8 -> Conv(2^8 W, b) -> ... -> Conv -> Cast(float32) -> ...

The graph itself states every type, as TensorRT requires, and leaves no choice to a builder. Inputs
and outputs are those of the float32 graph.

The kernels W of the first convolution include /255. This makes small ones subnormal in float16
(below 2^-14 = 6.1e-5), with few bits: up to 1.4 % of them in the detectors that were trained here.
So a factor of 2^8 is moved from the slices to the kernels: grey values 0..255 and their 256th parts
are exact in float16, and 2^8 W has all the bits of float16.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rsna_lumbar.export.graph.onnx_edit import (
    consumers,
    insert_after,
    network_nodes,
    read_graph,
    remove_unread,
    rename_inputs,
    write_graph,
)
from rsna_lumbar.runtime.core.errors import ExportError

GREY_SCALE = 2.0**-8
# Inputs that stay float32, by operator: Resize always takes its scales as float32.
FLOAT32_INPUTS = {"Resize": (1, 2)}


def to_half(graph: bytes) -> bytes:
    """Convert the network of a float32 score graph to float16.

    Args:
        graph: the ONNX file, opset 18.

    Returns:
        The ONNX file; the same bytes for the same graph.

    Raises:
        ExportError: the graph has no network, or a weight is too large for float16.
    """
    model = read_graph(graph)
    nodes = list(network_nodes(model.graph))
    scale_input(model.graph, nodes)
    halve_constants(model.graph, nodes)
    widen_results(model.graph, nodes)
    return write_graph(model)


def scale_input(graph: onnx.GraphProto, network: Sequence[onnx.NodeProto]) -> None:
    """Cast the slices to float16 and move 2^8 from them into the kernels that read them."""
    constants = {one.name: one for one in graph.initializer}
    for cast in [node for node in network if node.op_type == "Cast"]:
        grey = cast.output[0]
        kernels = [constants[name] for name in _first_kernels(network, grey)]
        cast.attribute[0].i = TensorProto.FLOAT16
        factor = numpy_helper.from_array(np.array(GREY_SCALE, np.float16), f"{grey}_factor")
        graph.initializer.append(factor)
        scaled = f"{grey}_scaled"
        rename_inputs(network, grey, scaled)
        name = f"{cast.name}_scaled"
        insert_after(graph, cast, helper.make_node("Mul", [grey, factor.name], [scaled], name=name))
        for kernel in kernels:
            larger = numpy_helper.to_array(kernel) * np.float32(1 / GREY_SCALE)
            kernel.CopyFrom(numpy_helper.from_array(larger, kernel.name))


def halve_constants(graph: onnx.GraphProto, network: Sequence[onnx.NodeProto]) -> None:
    """Convert the float32 constants that the network reads to float16."""
    constants = {one.name: one for one in graph.initializer}
    halves: dict[str, str] = {}
    for node in network:
        kept = FLOAT32_INPUTS.get(node.op_type, ())
        for place, name in enumerate(node.input):
            value = constants.get(name)
            if value is None or value.data_type != TensorProto.FLOAT or place in kept:
                continue
            if name not in halves:
                halves[name] = f"{name}_half"
                graph.initializer.append(_half(value, halves[name]))
            node.input[place] = halves[name]
    remove_unread(graph)


def widen_results(graph: onnx.GraphProto, network: Sequence[onnx.NodeProto]) -> None:
    """Cast the outputs of the network that the aggregation reads to float32."""
    names = {node.name for node in network}
    behind = [node for node in graph.node if node.name not in names]
    for node in network:
        for place, name in enumerate(node.output):
            if node.op_type == "Conv" and consumers(behind, name):
                half = f"{name}_half"
                node.output[place] = half
                rename_inputs(network, name, half)
                insert_after(
                    graph,
                    node,
                    helper.make_node(
                        "Cast", [half], [name], name=f"{node.name}_wide", to=TensorProto.FLOAT
                    ),
                )


def _first_kernels(network: Sequence[onnx.NodeProto], grey: str) -> set[str]:
    """Kernels of the convolutions that read a tensor, reshaped or not."""
    kernels: set[str] = set()
    for node in consumers(network, grey):
        if node.op_type == "Unsqueeze":
            kernels |= _first_kernels(network, node.output[0])
        elif node.op_type == "Conv":
            kernels.add(node.input[1])
        else:
            raise ExportError(
                f"{node.name} ({node.op_type}) reads the slices and is no convolution"
            )
    return kernels


def _half(value: TensorProto, name: str) -> TensorProto:
    array = numpy_helper.to_array(value)
    if not np.abs(array).max(initial=0) < np.finfo(np.float16).max:
        raise ExportError(f"{value.name} is too large for float16; export it with --precision fp32")
    return numpy_helper.from_array(array.astype(np.float16), name)
