"""The exported graph in ONNX Runtime against PyTorch float32 and the numpy reference."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from toys import TOY_MODEL

from rsna_lumbar.export.checkpoints.card import default_card
from rsna_lumbar.export.checkpoints.reference import reference_peaks
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.graph.rewrite import rewrite
from rsna_lumbar.export.graph.score_graph import (
    GRAPH_FORMAT,
    INPUTS,
    export_score_graph,
    grid_sides,
)
from rsna_lumbar.export.verification.limits import LIMITS
from rsna_lumbar.runtime.backends import OUTPUTS, Outputs, SessionSettings, load_backend
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, Group
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities, set_peaks
from rsna_lumbar.runtime.core.preprocess import Preprocessing

SIZE_PX = 64
CALIBRATION = Calibration(temperature=0.8, bias=(0.2, -0.1, -0.3), floor=1e-3)


def detector_of(group: Group, calibration: Calibration = CALIBRATION) -> Detector:
    prior = tuple(tuple(row) for row in default_card(group).prior.tolist())
    return Detector(group, SIZE_PX, calibration, prior, "maximum", ())  # type: ignore[arg-type]


def run(
    graph: bytes, group: Group, slices: NDArray[np.uint8], member: NDArray[np.bool_]
) -> Outputs:
    detector = detector_of(group)
    with load_backend("onnxruntime").open_session(
        [graph], TOY_MODEL, detector, SessionSettings("cpu", 1)
    ) as session:
        return session.run(slices, member)


def members(counts: list[int]) -> NDArray[np.bool_]:
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner == np.arange(len(counts))[:, None]


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("group", [SPINAL, FORAMINAL], ids=lambda group: group.name)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", ["n", "s"])
def test_equals_pytorch(
    make_checkpoint: Any, make_graph: Any, scale: str, channels: int, group: Group, batch: int
) -> None:
    """Several studies in a batch, an empty set between them and padding behind."""
    checkpoint = make_checkpoint(group, scale, channels)
    slices = textured_slices(batch, SIZE_PX, seed=batch)
    member = members([batch] if batch < 4 else [batch // 2, 0, batch - batch // 2, 0, 0])
    outputs = run(make_graph(group, scale, channels), group, slices, member)
    expected, _ = set_peaks(reference_peaks(checkpoint, slices), member)
    filled = member.any(axis=1)
    assert np.abs(outputs.peak - expected).max() < LIMITS["fp32"].peak
    graded = probabilities(expected[filled], CALIBRATION)
    assert np.abs(outputs.probability[filled] - graded).max() < LIMITS["fp32"].probability
    prior = np.float32(detector_of(group).prior)
    assert (outputs.probability[~filled] == prior).all()
    assert (outputs.peak[~filled] == 0).all()
    assert (outputs.slice[~filled] == -1).all() and (outputs.cell[~filled] == -1).all()
    assert (outputs.slice[filled] >= 0).all()
    assert (outputs.cell[filled] < sum(side**2 for side in grid_sides(SIZE_PX))).all()


@pytest.mark.parametrize(
    "scale", ["m", *(pytest.param(scale, marks=pytest.mark.slow) for scale in "lx")]
)
def test_larger_scales_equal_pytorch(make_checkpoint: Any, make_graph: Any, scale: str) -> None:
    test_equals_pytorch(make_checkpoint, make_graph, scale, 3, FORAMINAL, 7)


def test_places_lead_to_the_peak(make_checkpoint: Any, make_graph: Any) -> None:
    """Score of the named class at the named cell of the named slice, in PyTorch, is the peak."""
    import torch

    checkpoint = make_checkpoint(SPINAL, "n", 1)
    slices = textured_slices(9, SIZE_PX, seed=4)
    outputs = run(make_graph(SPINAL, "n", 1), SPINAL, slices, members([4, 5]))
    with torch.inference_mode():
        scores, _ = checkpoint.network(torch.from_numpy(slices)[:, None].float() / 255)
    classes = scores[:, 4:][:, list(checkpoint.order)].numpy()  # (N, C, A)
    found = classes[outputs.slice, np.arange(classes.shape[1]), outputs.cell]
    np.testing.assert_allclose(found, outputs.peak, rtol=0, atol=LIMITS["fp32"].peak)
    assert len(np.unique(outputs.cell)) > 3


def test_peaks_do_not_depend_on_the_batch(make_graph: Any) -> None:
    graph = make_graph(SPINAL, "n", 1)
    slices = textured_slices(12, SIZE_PX, seed=3)
    whole = run(graph, SPINAL, slices, members([12]))
    parts = [
        run(graph, SPINAL, slices[s : s + 5], members([len(slices[s : s + 5])])) for s in (0, 5, 10)
    ]
    combined = np.max([part.peak for part in parts], axis=0)
    assert np.abs(combined - whole.peak).max() < 1e-6
    graded = probabilities(combined, CALIBRATION)
    assert np.abs(graded - whole.probability).max() < 1e-6


def test_file_is_what_the_contract_says(make_graph: Any) -> None:
    model = onnx.load_model_from_string(make_graph(SPINAL, "n", 3))
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(tensor.external_data for tensor in model.graph.initializer)

    def shape(value: onnx.ValueInfoProto) -> tuple[int, list[int | str]]:
        tensor = value.type.tensor_type
        return tensor.elem_type, [d.dim_param or d.dim_value for d in tensor.shape.dim]

    types = onnx.TensorProto
    assert {one.name: shape(one) for one in model.graph.input} == {
        "slices": (types.UINT8, ["N", 64, 64]),
        "member": (types.BOOL, ["G", "N"]),
        "temperature": (types.FLOAT, [1]),
        "bias": (types.FLOAT, [3]),
        "floor": (types.FLOAT, [1]),
        "prior": (types.FLOAT, [5, 3]),
    }
    assert {one.name: shape(one) for one in model.graph.output} == {
        "peak": (types.FLOAT, ["G", 15]),
        "probability": (types.FLOAT, ["G", 5, 3]),
        "slice": (types.INT64, ["G", 15]),
        "cell": (types.INT64, ["G", 15]),
    }
    assert tuple(one.name for one in model.graph.input) == INPUTS
    assert tuple(one.name for one in model.graph.output) == OUTPUTS
    properties = {one.key: one.value for one in model.metadata_props}
    assert properties["format"] == GRAPH_FORMAT
    assert properties["group"] == "spinal" and properties["size_px"] == "64"
    assert tuple(json.loads(properties["classes"])) == SPINAL.classes
    assert Preprocessing(**json.loads(properties["preprocessing"])) == Preprocessing()
    assert json.loads(properties["versions"]) == {"test": "1"}


def test_export_is_deterministic_and_names_no_place(make_checkpoint: Any, make_graph: Any) -> None:
    checkpoint = make_checkpoint(SPINAL, "n", 3)
    again = export_score_graph(
        rewrite(checkpoint), SPINAL, SIZE_PX, preprocessing=Preprocessing(), versions={"test": "1"}
    )
    assert again == make_graph(SPINAL, "n", 3)
    assert str(checkpoint.path.parent).encode() not in again
    assert b"site-packages" not in again and b".py" not in again
