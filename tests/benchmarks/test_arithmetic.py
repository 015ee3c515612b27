"""Multiply-adds, of a graph counted by hand and of YOLOv8 against what is known of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rsna_lumbar.benchmarks.model.arithmetic import Arithmetic, arithmetic_of
from rsna_lumbar.benchmarks.model.work import Work, make_work
from rsna_lumbar.export.checkpoints.checkpoint import read_checkpoint
from rsna_lumbar.export.checkpoints.synthetic import random_detector, save_checkpoint
from rsna_lumbar.runtime.core.labels import SUBARTICULAR


def small_graph() -> bytes:
    """A strided 3 x 3 convolution from 2 to 4 channels, then a 1 x 1 in two groups to 6."""
    weights = {"first": (4, 2, 3, 3), "second": (6, 2, 1, 1)}
    graph = helper.make_graph(
        [
            helper.make_node(
                "Conv",
                ["x", "first"],
                ["y"],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                kernel_shape=[3, 3],
            ),
            helper.make_node("Relu", ["y"], ["r"]),
            helper.make_node("Conv", ["r", "second"], ["z"], group=2),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, "H", "W"])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 6, None, None])],
        [numpy_helper.from_array(np.zeros(s, np.float32), name) for name, s in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return bytes(model.SerializeToString())


def test_a_graph_counted_by_hand() -> None:
    """8 x 6 -> 4 x 3: first 4 x 12 outputs of 2 x 9, second 6 x 12 outputs of 2."""
    found = arithmetic_of(small_graph(), {"x": (1, 2, 8, 6)})
    assert found == Arithmetic(multiply_adds=48 * 18 + 72 * 2, largest_output=72)
    twice = arithmetic_of(small_graph(), {"x": (2, 2, 8, 6)})
    assert twice.multiply_adds == 2 * found.multiply_adds


def test_a_shape_that_does_not_follow_is_an_error() -> None:
    with pytest.raises(ValueError, match="no shape for y"):
        arithmetic_of(small_graph(), {})


def test_a_graph_without_convolutions() -> None:
    model = onnx.load_model_from_string(small_graph())
    del model.graph.node[:]
    assert arithmetic_of(bytes(model.SerializeToString()), {}) == Arithmetic(0, 0)


def work_of(scale: str, folder: Path) -> Work:
    path = folder / f"{scale}.pt"
    save_checkpoint(random_detector(SUBARTICULAR, scale=scale, size_px=64), path)
    return make_work(
        read_checkpoint(path), size_px=64, batch_size=1, series_slices=1, threads=1, folder=folder
    )


@pytest.mark.parametrize(("scale", "box_branch"), [("n", 0.187), ("s", 0.082)])
def test_the_box_branch_is_what_is_gone(scale: str, box_branch: float, tmp_path: Path) -> None:
    """Also two of three input channels of the first convolution: under 1 % of the arithmetic.

    The whole is held to the count of ultralytics itself, of PyTorch's modules.
    """
    from ultralytics.utils.torch_utils import get_flops

    work = work_of(scale, tmp_path)
    network = work.checkpoint.network
    first = network.model[0].conv
    saved = 2 * first.out_channels * 9 * 32 * 32  # multiply-adds at stride 2 of 64 px
    gone = work.whole.multiply_adds - work.scored.multiply_adds
    assert (gone - saved) / work.whole.multiply_adds == pytest.approx(box_branch, abs=0.002)
    assert saved / work.whole.multiply_adds < 0.015
    theirs = get_flops(network, 64)  # 10^9 operations, 0 where its counter is not installed
    if theirs:
        assert 2 * work.whole.multiply_adds / 1e9 == pytest.approx(theirs, rel=0.03)
