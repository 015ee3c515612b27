"""The float16 graph: what is half and what is not, and that it answers as the float32 one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from rtx_apart import asked_apart, parsed_layers
from toys import TOY_MODEL, toy_model

from rsna_lumbar.export.checkpoints.card import default_card
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.graph.float16 import to_half
from rsna_lumbar.export.graph.onnx_edit import network_nodes, read_graph
from rsna_lumbar.runtime.backends import Outputs, SessionSettings, load_backend
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.errors import ExportError
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, Group
from rsna_lumbar.runtime.core.postprocess import Calibration

SIZE_PX = 64
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}
# float16 has 11 bits; seen are 0.003 in a peak and 0.004 in a probability.
TOLERANCE = 0.02
SMALLEST_NORMAL = 2.0**-14
PRECISION = 2.0**-11  # largest relative rounding of a normal float16


@pytest.fixture(scope="module")
def graph(make_graph: Any) -> bytes:
    made: bytes = make_graph(SPINAL, "n", 1)
    return made


@pytest.fixture(scope="module")
def half(graph: bytes) -> onnx.ModelProto:
    return onnx.load_model_from_string(to_half(graph))


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {one.name: one.type.tensor_type.elem_type for one in values}
    return types | {one.name: one.data_type for one in inferred.initializer}


def run(content: bytes, group: Group, slices: NDArray[np.uint8]) -> Outputs:
    prior = tuple(tuple(row) for row in default_card(group).prior.tolist())
    detector = Detector(group, SIZE_PX, Calibration(), prior, "maximum", ())  # type: ignore[arg-type]
    member = np.arange(len(slices)) % 2 == np.arange(3)[:, None]  # two sets and an empty one
    with load_backend("onnxruntime").open_session(
        [content], TOY_MODEL, detector, SessionSettings("cpu", 1)
    ) as session:
        return session.run(slices, member)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("group", [SPINAL, FORAMINAL], ids=lambda group: group.name)
def test_answers_as_float32(make_graph: Any, group: Group, channels: int) -> None:
    content = make_graph(group, "n", channels)
    slices = textured_slices(9, SIZE_PX, seed=2)
    expected, found = run(content, group, slices), run(to_half(content), group, slices)
    difference = np.abs(found.peak - expected.peak).max()
    assert 0 < difference < TOLERANCE
    assert np.abs(found.probability - expected.probability).max() < TOLERANCE
    assert (found.slice[2] == -1).all() and (found.cell[2] == -1).all()


def test_inputs_and_outputs_are_unchanged(graph: bytes, half: onnx.ModelProto) -> None:
    before = onnx.load_model_from_string(graph)
    assert list(half.graph.input) == list(before.graph.input)
    assert list(half.graph.output) == list(before.graph.output)
    assert list(half.metadata_props) == list(before.metadata_props)
    assert list(half.opset_import) == list(before.opset_import)
    assert not any(one.external_data for one in half.graph.initializer)


def test_the_network_is_half_and_nothing_behind_it(half: onnx.ModelProto) -> None:
    types = types_of(half)
    network = network_nodes(half.graph)
    inside = {node.name for node in network}
    for node in network:
        floats = {types[name] for name in node.output} & FLOATS
        if node.op_type != "Constant":
            assert floats <= {TensorProto.FLOAT16}, node.name
    convolutions = [node for node in network if node.op_type == "Conv"]
    assert len(convolutions) == 54
    assert {types[name] for node in convolutions for name in node.input} == {TensorProto.FLOAT16}
    for node in half.graph.node:
        if node.name not in inside and node.op_type != "Cast":
            assert TensorProto.FLOAT16 not in {types[name] for name in node.input}, node.name


def test_resize_keeps_float32_scales(half: onnx.ModelProto) -> None:
    types = types_of(half)
    resizes = [node for node in half.graph.node if node.op_type == "Resize"]
    assert {types[node.input[2]] for node in resizes} == {TensorProto.FLOAT}
    assert len(resizes) == 2


def test_small_kernels_of_the_first_convolution_keep_their_bits(graph: bytes) -> None:
    """A detector with low contrast inside: as they are, these kernels would be subnormal."""
    model = read_graph(graph)
    kernels = first_kernels(model)
    exact = numpy_helper.to_array(kernels) / 64
    kernels.CopyFrom(numpy_helper.from_array(exact, kernels.name))
    made = onnx.load_model_from_string(to_half(model.SerializeToString()))
    kept = numpy_helper.to_array(first_kernels(made)).astype(np.float64) / 256
    small = np.abs(exact) < SMALLEST_NORMAL
    normal = np.abs(exact) * 256 >= SMALLEST_NORMAL
    assert (small & normal).mean() > 0.5
    assert (np.abs(kept - exact)[normal] <= PRECISION * np.abs(exact)[normal]).all()


def first_kernels(model: onnx.ModelProto) -> TensorProto:
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    return next(one for one in model.graph.initializer if one.name == first.input[1])


def test_same_graph_gives_same_bytes(graph: bytes) -> None:
    assert to_half(graph) == to_half(graph)


def test_a_graph_without_network_is_refused() -> None:
    with pytest.raises(ExportError, match="no convolution"):
        to_half(toy_model(SPINAL))


@pytest.mark.parametrize("value", [7e4, -1e30, float("nan")])
def test_a_weight_too_large_is_refused(graph: bytes, value: float) -> None:
    model = read_graph(graph)
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    bias = next(one for one in model.graph.initializer if one.name == last.input[2])
    values = numpy_helper.to_array(bias).copy()
    values[3] = value
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    with pytest.raises(ExportError, match=r"too large for float16.*fp32"):
        to_half(model.SerializeToString())


def test_tensorrt_rtx_reads_it(half: onnx.ModelProto) -> None:
    """Strongly typed; reading needs no GPU."""
    found = asked_apart(parsed_layers, half.SerializeToString())
    assert found["errors"] == []
    convolutions = [dtype for kind, dtype in found["layers"] if kind == "CONVOLUTION"]
    assert convolutions == ["HALF"] * 54
