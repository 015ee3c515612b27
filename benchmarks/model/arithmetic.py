"""Multiply-adds of a network, counted from its ONNX graph.

    Conv: N x C_out x H_out x W_out outputs, each of C_in / groups x K_h x K_w multiply-adds

Convolutions are all but 0.1 % of a YOLOv8; activations, maxima and the aggregation are not counted.
One multiply-add counts as two operations, as in matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

OPERATIONS = 2  # of a multiply-add
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The counts of a graph, for inputs of the given shapes."""

    multiply_adds: int
    largest_output: int  # numbers in the largest tensor that a convolution writes


def arithmetic_of(graph: bytes, shapes: Mapping[str, Sequence[int]]) -> Arithmetic:
    """Count the convolutions of an ONNX file.

    Args:
        graph: with weights as initializers.
        shapes: of inputs by name; others keep the shape in the file.

    Raises:
        ValueError: the shape of a convolution's output does not follow from the inputs'.
    """
    model = onnx.load_model_from_string(graph)
    for one in model.graph.input:
        for dimension, size in zip(
            one.type.tensor_type.shape.dim, shapes.get(one.name, ()), strict=False
        ):
            dimension.dim_value = size
    del model.graph.value_info[:]  # with the names of dimensions that have numbers now
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    outputs = {  # a dimension without a number is 0
        one.name: tuple(size.dim_value for size in one.type.tensor_type.shape.dim)
        for one in (*known.value_info, *known.output)
    }
    kernels = {one.name: tuple(one.dims) for one in model.graph.initializer}
    counts, sizes = [0], [0]
    for node in model.graph.node:
        if node.op_type == "Conv":
            output = outputs.get(node.output[0], ())
            if not output or 0 in output:
                raise ValueError(f"no shape for {node.output[0]}, the output of a convolution")
            each = math.prod(kernels[node.input[1]][1:])  # C_in / groups x K_h x K_w
            counts.append(math.prod(output) * each)
            sizes.append(math.prod(output))
    return Arithmetic(sum(counts), max(sizes))
