"""The int8 graphs: what is an integer and what is not, and how near they come to float32.

Networks of random weights at 64 px are no measure of accuracy: the tolerances here stop a graph
that is wrong. What int8 costs in grades is measured on trained detectors.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, parser
from rtx_apart import asked_apart, parsed_layers
from toys import TOY_MODEL, toy_model

from rsna_lumbar.export.checkpoints.card import default_card
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.graph.calibration_ranges import activation_ranges, silu_inputs, united
from rsna_lumbar.export.graph.int8 import LEAST_SLICES, SCHEMES, quantise, sources
from rsna_lumbar.export.graph.onnx_edit import network_nodes, read_graph, write_graph
from rsna_lumbar.export.graph.precisions import graph_in
from rsna_lumbar.runtime.backends import Outputs, SessionSettings, load_backend
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.errors import ExportError, UsageError
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.postprocess import Calibration

SIZE_PX = 64
CONVOLUTIONS = 54
HEADS = 3
SLICES = textured_slices(LEAST_SLICES, SIZE_PX, seed=6)
# Of a peak; seen are 0.05 (U8S8), 0.08 (fused) and 0.07 (S8S8).
TOLERANCE = 0.2
# So that ONNX Runtime does not saturate on a CPU without VNNI.
MODEL = replace(TOY_MODEL, precision="int8")


@pytest.fixture(scope="module")
def graph(make_graph: Any) -> bytes:
    made: bytes = make_graph(SPINAL, "n", 1)
    return made


@pytest.fixture(scope="module", params=list(SCHEMES))
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def quantised(graph: bytes, scheme: str) -> bytes:
    return quantise(graph, SLICES, scheme=scheme)


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def producers_of(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def integer_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    producer = producers_of(model)
    return [one for one in model.graph.node if one.op_type == "Conv" and one.input[1] in producer]


def run(content: bytes, slices: NDArray[np.uint8]) -> Outputs:
    prior = tuple(tuple(row) for row in default_card(SPINAL).prior.tolist())
    detector = Detector(SPINAL, SIZE_PX, Calibration(), prior, "maximum", ())  # type: ignore[arg-type]
    member = np.arange(len(slices)) % 2 == np.arange(3)[:, None]  # two sets and an empty one
    with load_backend("onnxruntime").open_session(
        [content], MODEL, detector, SessionSettings("cpu", 1)
    ) as session:
        return session.run(slices, member)


def test_answers_nearly_as_float32(graph: bytes, quantised: bytes) -> None:
    slices = textured_slices(9, SIZE_PX, seed=2)
    expected, found = run(graph, slices), run(quantised, slices)
    difference = np.abs(found.peak - expected.peak)
    assert 0 < difference.max() < TOLERANCE
    assert np.median(difference) < TOLERANCE / 20
    assert (found.slice[2] == -1).all() and (found.cell[2] == -1).all()
    assert (found.probability[2] == expected.probability[2]).all()


def test_inputs_and_outputs_are_unchanged(graph: bytes, quantised: bytes) -> None:
    before, after = map(onnx.load_model_from_string, (graph, quantised))
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert list(after.metadata_props) == list(before.metadata_props)
    assert [(one.domain, one.version) for one in after.opset_import] == [("", 18)]
    assert not any(one.external_data for one in after.graph.initializer)
    assert {node.domain for node in after.graph.node} == {""}


def test_weights_are_int8_for_each_channel_and_biases_float32(quantised: bytes) -> None:
    model = onnx.load_model_from_string(quantised)
    constants, producer = constants_of(model), producers_of(model)
    for node in integer_convolutions(model):
        read = sources(list(model.graph.node), [node.input[0]])
        assert read and {producer[name].op_type for name in read} == {"DequantizeLinear"}
        assert constants[node.input[2]].dtype == np.float32
        weights, scale, zero = (constants[name] for name in producer[node.input[1]].input)
        assert weights.dtype == np.int8
        assert len(scale) == len(weights) and not zero.any()
        assert np.abs(weights.reshape(len(weights), -1)).max(axis=1).min() >= 126
    assert not any(one.data_type == TensorProto.INT32 for one in model.graph.initializer)


@pytest.mark.parametrize(
    ("scheme", "floats"),
    [("U8S8", ["last"] * HEADS), ("U8S8-fused", []), ("S8S8", ["first"])],
    indirect=["scheme"],
)
def test_which_convolutions_stay_float32(quantised: bytes, floats: list[str]) -> None:
    """The last ones where their logits would be integers too; the first one where signed."""
    model = onnx.load_model_from_string(quantised)
    integers = {node.name for node in integer_convolutions(model)}
    inside = network_nodes(model.graph)
    read_inside = {name for node in inside for name in node.input}
    convolutions = [node for node in inside if node.op_type == "Conv"]
    names = {node.name: "last" for node in convolutions if node.output[0] not in read_inside}
    names[convolutions[0].name] = "first"
    assert len(convolutions) == CONVOLUTIONS and len(names) == HEADS + 1
    assert [names[one.name] for one in convolutions if one.name not in integers] == floats


@pytest.mark.parametrize("scheme", ["S8S8"], indirect=True)
def test_signed_integers_have_no_zero_point(quantised: bytes) -> None:
    model = onnx.load_model_from_string(quantised)
    constants = constants_of(model)
    kinds = ("QuantizeLinear", "DequantizeLinear")
    pairs = [node for node in model.graph.node if node.op_type in kinds]
    zeros = [constants[node.input[2]] for node in pairs]
    assert len(zeros) > 2 * CONVOLUTIONS - 10
    assert {zero.dtype for zero in zeros} == {np.dtype(np.int8)}
    assert not any(zero.any() for zero in zeros)


@pytest.mark.parametrize("scheme", ["U8S8", "U8S8-fused"], indirect=True)
def test_the_slices_are_read_as_they_are(quantised: bytes) -> None:
    model = onnx.load_model_from_string(quantised)
    constants, producer = constants_of(model), producers_of(model)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    pair = producer[first.input[0]]
    assert pair.op_type == "DequantizeLinear"
    assert (constants[pair.input[1]], constants[pair.input[2]]) == (1, 0)
    assert producer[pair.input[0]].op_type == "Unsqueeze"
    assert producer[pair.input[0]].input[0] == "slices"


@pytest.mark.parametrize("scheme", ["U8S8", "U8S8-fused"], indirect=True)
def test_values_are_moved_as_integers(quantised: bytes) -> None:
    model = onnx.load_model_from_string(quantised)
    types = {
        one.name: one.type.tensor_type.elem_type
        for one in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    moves = [
        node
        for node in network_nodes(model.graph)
        if node.op_type in ("Concat", "Split", "MaxPool", "Resize")
    ]
    assert Counter(node.op_type for node in moves) == {
        "Concat": 13,
        "Split": 8,
        "MaxPool": 3,
        "Resize": 2,
    }
    assert {types[name] for node in moves for name in node.output} == {TensorProto.UINT8}


@pytest.mark.parametrize("scheme", ["U8S8"], indirect=True)
def test_onnxruntime_fuses_every_operator(quantised: bytes, tmp_path: Path) -> None:
    """What it left as pairs around a float operator would be slower than float32."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(quantised, options, providers=["CPUExecutionProvider"])
    optimized = onnx.load_model(tmp_path / "optimized.onnx")
    found = Counter(node.op_type for node in optimized.graph.node)
    assert found["QLinearConv"] == CONVOLUTIONS - HEADS
    assert found["QLinearSigmoid"] == found["QLinearMul"] == 51
    assert found["QuantizeLinear"] == 0
    assert found["DequantizeLinear"] == HEADS


@pytest.mark.parametrize("scheme", ["S8S8"], indirect=True)
def test_tensorrt_rtx_reads_it(quantised: bytes) -> None:
    """Strongly typed; reading needs no GPU."""
    found = asked_apart(parsed_layers, quantised)
    assert found["errors"] == []
    assert sum(kind == "QUANTIZE" for kind, _ in found["layers"]) > CONVOLUTIONS / 2


def test_order_of_the_slices_does_not_matter(graph: bytes, quantised: bytes, scheme: str) -> None:
    """Same bytes, also where runs of eight hold other slices."""
    assert quantise(graph, SLICES[::-1].copy(), scheme=scheme) == quantised


def test_nothing_is_printed_or_logged(
    graph: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    handlers = list(logging.getLogger().handlers)
    quantise(graph, SLICES, scheme="U8S8")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert logging.getLogger().handlers == handlers


def test_too_few_slices_are_refused(graph: bytes) -> None:
    with pytest.raises(UsageError, match=rf"at least {LEAST_SLICES}.*--calibration-data"):
        quantise(graph, SLICES[1:], scheme="U8S8")


def test_a_graph_without_network_is_refused() -> None:
    with pytest.raises(ExportError, match="no convolution"):
        quantise(toy_model(SPINAL), SLICES, scheme="U8S8")


def test_values_that_are_no_numbers_are_refused(graph: bytes) -> None:
    model = read_graph(graph)
    last = [node for node in model.graph.node if node.op_type == "Conv"][20]
    bias = next(one for one in model.graph.initializer if one.name == last.input[2])
    values = np.full_like(numpy_helper.to_array(bias), np.inf)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    with pytest.raises(ExportError, match="not finite"):
        quantise(model.SerializeToString(), SLICES, scheme="U8S8")


def test_the_sizes_of_the_precisions(graph: bytes) -> None:
    for precision in ("fp32", "bf16"):
        made = graph_in(precision, graph, scheme="U8S8", calibration=None)
        assert made == write_graph(read_graph(graph))
    halved = graph_in("fp16", graph, scheme="U8S8", calibration=None)
    assert len(halved) < 0.6 * len(graph)
    with pytest.raises(UsageError, match="--calibration-data"):
        graph_in("int8", graph, scheme="U8S8", calibration=None)
    integers = graph_in("int8", graph, scheme="S8S8", calibration=SLICES)
    assert len(integers) < 0.35 * len(graph)


RANGES_GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
toy (uint8[N, 4, 4] slices) => (float[N, 2, 2, 2] out)
  <int64[1] channel = {1}, float[2, 1, 3, 3] w = {1, 0, 0, 0, 0, 0, 0, 0, 0,
                                                  0, 0, 0, 0, 0, 0, 0, 0, -0.5},
   float[2] b = {0, 0}, float[2, 4, 1, 1] head = {1, 0, 0, 0, 0, 1, 0, 0}>
{
  grey = Cast <to = 1> (slices)
  image = Unsqueeze (grey, channel)
  y = Conv <strides = [1, 1]> (image, w, b)
  s = Sigmoid (y)
  z = Mul (y, s)
  pooled = MaxPool <kernel_shape = [1, 1]> (y)
  both = Concat <axis = 1> (z, pooled)
  out = Conv (both, head)
}
"""


def test_ranges_are_those_of_the_pixels() -> None:
    """Kernel 0 copies the pixel above and to the left, kernel 1 the one below, times -1/2."""
    model = parser.parse_model(RANGES_GRAPH)
    slices = np.full((11, 4, 4), 100, np.uint8)
    slices[10, :2, :2] = 255  # in the last run; read by kernel 0
    slices[3, 2:, 2:] = 200  # read by kernel 1
    content = model.SerializeToString()
    ranges = activation_ranges(read_graph(content), slices)
    assert ranges["grey"] == (0, 255)
    assert ranges["s"] == (0, 1)
    # y is joined with pooled, both and z: one range, -100 (of y) to 255.
    assert ranges["z"] == ranges["both"] == ranges["pooled"] == pytest.approx((-100, 255))
    # As the input of a SiLU it is cut where |SiLU| is half a step, 355 / 255 / 2 = 0.696: nowhere.
    assert ranges["y"] == pytest.approx((-1.28, 255))


def test_moves_unite_ranges_in_any_order() -> None:
    nodes = [
        onnx.helper.make_node("Split", ["a"], ["b", "c"]),
        onnx.helper.make_node("Concat", ["d", "c"], ["e"], axis=1),
        onnx.helper.make_node("Mul", ["e", "e"], ["f"]),
    ]
    ranges = {"a": (0.0, 1.0), "b": (0.0, 1.0), "c": (0.0, 1.0), "d": (-3.0, 0.5)}
    found = united(nodes, {**ranges, "e": (-3.0, 1.0), "f": (9.0, 10.0)})
    assert {found[name] for name in "abcde"} == {(-3.0, 1.0)}
    assert found["f"] == (9.0, 10.0)


@pytest.mark.parametrize("highest", [1.0, 10.0, 60.0])
def test_what_is_cut_off_a_silu_is_less_than_half_a_step(highest: float) -> None:
    nodes = [
        onnx.helper.make_node("Sigmoid", ["y"], ["s"]),
        onnx.helper.make_node("Mul", ["y", "s"], ["z"]),
    ]
    ranges = {"y": (-40.0, highest), "z": (-0.2785, highest)}
    low, high = silu_inputs(nodes, ranges)["y"]
    step = (highest + 0.2785) / 255
    assert high == highest
    assert abs(low / (1 + np.exp(-low))) <= step / 2
    higher = low + 0.1  # so it is not cut more than it need be less
    assert abs(higher / (1 + np.exp(-higher))) > step / 2
