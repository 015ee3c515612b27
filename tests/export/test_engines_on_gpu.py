"""Engines built, opened and run on the GPU that is here; without one, this says that it skipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.formats import BuildOptions
from rsna_lumbar.export.formats.tensorrt import build
from rsna_lumbar.runtime.backends import OUTPUTS, Outputs, SessionSettings, constant_inputs
from rsna_lumbar.runtime.backends.tensorrt import open_session
from rsna_lumbar.runtime.bundle.records import Detector, Model, ModelFile
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.system.gpus import cuda_devices

SIZE_PX = 64
LARGEST = 8
DETECTOR = Detector(
    group=SPINAL,
    size_px=SIZE_PX,
    calibration=Calibration(temperature=1.5, bias=(0.1, 0.0, -0.2), floor=1e-3),
    prior=((0.6, 0.25, 0.15),) * len(SPINAL.locations),
    combination="mean",
    models=(),
)
# Rounding of float32 in another order of additions, without TF32; as for ONNX Runtime.
PEAK_LIMIT, PROBABILITY_LIMIT = 1e-5, 1e-4


@pytest.mark.skipif(not cuda_devices(), reason="no NVIDIA GPU found; no engine was run")
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_answers_as_onnx_runtime_does(name: str, make_graph: Any) -> None:
    graph = make_graph(SPINAL, "n", 1)
    try:
        built = build(name, graph, "fp32", BuildOptions(4, LARGEST), print)
    except UsageError as error:
        pytest.skip(f"{error}; its engine was not run")
    model = Model(
        files=(ModelFile("spinal.plan", "0" * 64),),
        backend=name,
        target=built.target,
        precision="fp32",
        weights_sha256="1" * 64,
        engine=built.engine,
        parity=None,
    )
    reference = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    batches = [make_batch(count) for count in (LARGEST, 3, 5, 1)]
    with open_session(
        (built.files[0].content,), model, DETECTOR, SessionSettings("cuda:0", 1)
    ) as session:
        first = [session.run(*batch) for batch in batches]
        for _ in range(3):  # both slots, plain, captured and replayed, two under way
            waits = [session.start(*batch) for batch in batches]
            for wait, before in zip(waits, first, strict=True):
                assert_same_bytes(wait(), before)
    for (slices, member), found in zip(batches, first, strict=True):
        feed = {"slices": slices, "member": member, **constant_inputs(DETECTOR)}
        expected = Outputs(*reference.run(OUTPUTS, feed))
        np.testing.assert_allclose(found.peak, expected.peak, rtol=0, atol=PEAK_LIMIT)
        np.testing.assert_allclose(
            found.probability, expected.probability, rtol=0, atol=PROBABILITY_LIMIT
        )
        empty = ~member.any(axis=1)
        assert (found.slice[empty] == -1).all() and (found.cell[empty] == -1).all()
        assert (found.slice == expected.slice).mean() > 0.9  # near ties may fall the other way


def make_batch(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Slices in two sets, the second one shorter, and an empty one where there is room."""
    member = np.zeros((min(3, count), count), np.bool_)
    member[0] = True
    member[1:2, : count // 2] = True
    return textured_slices(count, SIZE_PX, seed=count), member


def assert_same_bytes(found: Outputs, expected: Outputs) -> None:
    for name in OUTPUTS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
