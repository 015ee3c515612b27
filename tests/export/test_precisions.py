"""What makes a precision of a float32 graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.graph.int8 import LEAST_SLICES
from rsna_lumbar.export.graph.precisions import graph_in
from rsna_lumbar.runtime.bundle.records import PRECISIONS
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import SPINAL

SIZE_PX = 64


@pytest.fixture(scope="module")
def graph(make_graph: Any) -> bytes:
    made: bytes = make_graph(SPINAL, "n", 1)
    return made


def channel_first(graph: bytes) -> bytes:
    """The graph as bundles of format 1 have it: slices get their channel before the cast."""
    model = onnx.load_model_from_string(graph)
    place = next(i for i, one in enumerate(model.graph.node) if "slices" in one.input)
    cast = model.graph.node[place]
    channel = next(one for one in model.graph.node if cast.output[0] in one.input)
    assert (cast.op_type, channel.op_type) == ("Cast", "Unsqueeze")
    raw, between, end = cast.input[0], cast.output[0], channel.output[0]
    channel.input[0], channel.output[0] = raw, between
    cast.input[0], cast.output[0] = between, end
    nodes = [one for one in model.graph.node if one is not cast and one is not channel]
    first = nodes.index(next(one for one in nodes if end in one.input))
    copies = [*nodes[:first], channel, cast, *nodes[first:]]
    copies = [onnx.NodeProto.FromString(one.SerializeToString()) for one in copies]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def first_reader(graph: bytes) -> str:
    model = onnx.load_model_from_string(graph)
    (reader,) = (node for node in model.graph.node if "slices" in node.input)
    return str(reader.op_type)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_of_bundles_can_be_made(graph: bytes, precision: str) -> None:
    slices = textured_slices(LEAST_SLICES, SIZE_PX)
    made = graph_in(precision, graph, scheme="U8S8", calibration=slices)
    onnx.checker.check_model(onnx.load_model_from_string(made))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_graphs_of_format_1_are_brought_up_to_date(graph: bytes, precision: str) -> None:
    """TensorRT lets nothing but a cast read uint8."""
    old = channel_first(graph)
    assert first_reader(old) == "Unsqueeze"
    new = graph_in(precision, old, scheme="S8S8", calibration=None)
    assert first_reader(new) == "Cast"


def test_float32_stays_float32(graph: bytes) -> None:
    import onnxruntime as ort

    made = graph_in("fp32", graph, scheme="S8S8", calibration=None)
    slices = np.random.default_rng(0).integers(0, 256, (2, SIZE_PX, SIZE_PX)).astype(np.uint8)
    feed = {
        "slices": slices,
        "member": np.ones((1, 2), bool),
        "temperature": np.ones(1, np.float32),
        "bias": np.zeros(3, np.float32),
        "floor": np.full(1, 1e-4, np.float32),
        "prior": np.full((5, 3), 1 / 3, np.float32),
    }
    before, after = (ort.InferenceSession(one).run(None, feed) for one in (graph, made))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_int8_needs_slices(graph: bytes) -> None:
    with pytest.raises(UsageError, match="--calibration-data"):
        graph_in("int8", graph, scheme="U8S8", calibration=None)
