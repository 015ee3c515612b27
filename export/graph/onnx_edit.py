"""Reading, editing and writing score graphs for the other precisions.

The network of a graph is every convolution and everything that a convolution depends on. The rest
is the aggregation, which stays in float32 in every precision: its logarithms and its comparisons
of nearly equal peaks need it, and take almost no time.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from rsna_lumbar.runtime.core.errors import ExportError


def read_graph(content: bytes) -> onnx.ModelProto:
    """Parse a score graph and normalise it for the precisions.

    Nodes that only copy a constant are removed, slices are cast before they are reshaped, and
    every node gets a name.

    Raises:
        ExportError: it is not an ONNX file.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # DecodeError of protobuf, which is no dependency of ours
        raise ExportError(f"the graph is not an ONNX file: {error}") from error
    _drop_identities(model.graph)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    _cast_first(model.graph)
    del model.graph.value_info[:]  # the types in it are about to change
    return model


def write_graph(model: onnx.ModelProto) -> bytes:
    """Check a graph and serialise it: same graph, same bytes."""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def network_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The convolutions and everything that they depend on, in the order of the graph.

    Raises:
        ExportError: the graph has no convolution.
    """
    producer = {name: index for index, node in enumerate(graph.node) for name in node.output}
    waiting = [index for index, node in enumerate(graph.node) if node.op_type == "Conv"]
    if not waiting:
        raise ExportError("the graph has no convolution: it can only be used in float32")
    found: set[int] = set()
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting += [producer[name] for name in graph.node[index].input if name in producer]
    return [node for index, node in enumerate(graph.node) if index in found]


def consumers(nodes: Iterable[onnx.NodeProto], name: str) -> list[onnx.NodeProto]:
    """The nodes that read a tensor."""
    return [node for node in nodes if name in node.input]


def rename_inputs(nodes: Iterable[onnx.NodeProto], old: str, new: str) -> None:
    """Make nodes read the tensor ``new`` instead of ``old``."""
    for node in nodes:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def insert_after(graph: onnx.GraphProto, node: onnx.NodeProto, new: onnx.NodeProto) -> None:
    """Insert a node after another one; references to other nodes stay valid."""
    place = next(index for index, one in enumerate(graph.node) if one.name == node.name)
    graph.node.insert(place + 1, new)


def remove_unread(graph: onnx.GraphProto) -> None:
    """Remove the nodes and constants that nothing reads."""
    read = {one.name for one in graph.output}
    for node in reversed(list(graph.node)):  # readers come before what they read
        if read.intersection(node.output):
            read.update(node.input)
        else:
            graph.node.remove(node)
    for constant in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(constant)


def _drop_identities(graph: onnx.GraphProto) -> None:
    """The exporter shares constants by Identity nodes, which quantisers mistake for tensors."""
    constants = {one.name for one in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in constants:
            rename_inputs(graph.node, node.output[0], node.input[0])
            graph.node.remove(node)


def _cast_first(graph: onnx.GraphProto) -> None:
    """Unsqueeze -> Cast of an input becomes Cast -> Unsqueeze: TensorRT cannot reshape uint8."""
    inputs = {one.name for one in graph.input}
    for unsqueeze in [one for one in graph.node if one.op_type == "Unsqueeze"]:
        readers = consumers(graph.node, unsqueeze.output[0])
        if unsqueeze.input[0] in inputs and [one.op_type for one in readers] == ["Cast"]:
            (cast,) = readers
            raw, between, end = unsqueeze.input[0], unsqueeze.output[0], cast.output[0]
            unsqueeze.input[0], unsqueeze.output[0] = between, end
            cast.input[0], cast.output[0] = raw, between
            moved = onnx.NodeProto()
            moved.CopyFrom(cast)
            graph.node.remove(cast)
            place = next(i for i, one in enumerate(graph.node) if one.name == unsqueeze.name)
            graph.node.insert(place, moved)
