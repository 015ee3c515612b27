"""The rewritten network is the original one, in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.graph.rewrite import fold_input, fused, permute_classes, rewrite
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, Group

EXACT = 1e-10


def original_logits(checkpoint: Checkpoint, slices: torch.Tensor) -> torch.Tensor:
    """Class logits (N, C, A) of the untouched network in float64, in canonical order."""
    network: Any = copy.deepcopy(checkpoint.network).double()
    rgb = (slices[:, None].double() / 255).expand(-1, checkpoint.channels, -1, -1)
    with torch.no_grad():
        _, raw = network(rgb)
    return raw["scores"][:, list(checkpoint.order)]


@pytest.mark.parametrize("group", [SPINAL, FORAMINAL], ids=lambda group: group.name)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", ["n", "s"])
def test_equals_original_in_float64(
    make_checkpoint: Any, scale: str, channels: int, group: Group
) -> None:
    checkpoint = make_checkpoint(group, scale, channels)
    slices = torch.from_numpy(textured_slices(3, 96, seed=1))
    with torch.no_grad():
        grids = rewrite(checkpoint)(slices[:, None].double())
    found = torch.cat([grid.flatten(2) for grid in grids], dim=2)
    expected = original_logits(checkpoint, slices)
    assert [tuple(grid.shape[2:]) for grid in grids] == [(12, 12), (6, 6), (3, 3)]
    assert float((found - expected).abs().max()) < EXACT
    assert checkpoint.order != tuple(range(len(group.classes)))  # the order was really shuffled


def test_original_stays_as_it_was(make_checkpoint: Any) -> None:
    checkpoint = make_checkpoint(SPINAL, "n", 3)
    before = {key: value.clone() for key, value in checkpoint.network.state_dict().items()}
    rewrite(checkpoint)
    after = checkpoint.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_nothing_of_box_branch_or_batch_norm_is_left(make_checkpoint: Any) -> None:
    checkpoint = make_checkpoint(SPINAL, "n", 3)
    network = rewrite(checkpoint)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    kept = {id(module) for module in network.modules()}
    assert len(kept) < sum(1 for _ in checkpoint.network.modules())
    outputs = {m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)}
    assert len(SPINAL.classes) in outputs
    box_channels = checkpoint.network.model[-1].cv2[0][-1].out_channels
    assert all(branch[-1].out_channels != box_channels for branch in network.branches)


def test_batch_norm_by_hand() -> None:
    convolution = nn.Conv2d(1, 1, 1, bias=True).double()
    convolution.weight.data.fill_(2.0)
    convolution.bias.data.fill_(1.0)
    norm = nn.BatchNorm2d(1, eps=0.25).double()
    norm.weight.data.fill_(3.0)
    norm.bias.data.fill_(5.0)
    norm.running_mean.fill_(4.0)
    norm.running_var.fill_(2.0)  # sqrt(2 + 0.25) = 1.5, so the scale is 2
    joined = fused(convolution, norm)
    assert joined.weight.item() == 4.0
    assert joined.bias is not None and joined.bias.item() == 2 * (1 - 4) + 5


def test_input_by_hand() -> None:
    convolution = nn.Conv2d(3, 1, 1, bias=False).double()
    convolution.weight.data = torch.tensor([51.0, 102.0, 357.0]).double().reshape(1, 3, 1, 1)
    fold_input(convolution)
    assert convolution.weight.shape == (1, 1, 1, 1)
    assert convolution.weight.item() == 2.0  # 510 / 255


def test_classes_by_hand() -> None:
    convolution = nn.Conv2d(1, 3, 1)
    convolution.weight.data = torch.tensor([10.0, 20.0, 30.0]).reshape(3, 1, 1, 1)
    convolution.bias.data = torch.tensor([1.0, 2.0, 3.0])
    permute_classes(convolution, (2, 0, 1))
    assert np.array_equal(convolution.weight.flatten(), [30, 10, 20])
    assert np.array_equal(convolution.bias, [3, 1, 2])
