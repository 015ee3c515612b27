"""Remove everything from the network that scoring does not need, by exact algebra.

Every step is computed in float64 and changes no class logit by more than float64 rounding. One
cast to float32 follows at the end. With W a convolution's kernels and b its bias:

    batch norm      s = gamma / sqrt(variance + epsilon)
                    s (W * x + b - mean) + beta  =  (s W) * x + (s (b - mean) + beta)
    grey and /255   W * (g, g, g) / 255          =  (sum over input channels of W / 255) * g
    class order     row c of the last convolution of each class branch = its row order[c]
    box branch      no class logit depends on it
    chunk           the halves of a C2f become a Split of fixed sizes, as in ultralytics' own export

Zero padding commutes with all steps, because none adds anything to the input.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint

WHITE = 255.0


class ClassNetwork(nn.Module):
    """Backbone, neck and class branches: grey slices (N, 1, S, S), 0..255 -> class logits."""

    def __init__(self, layers: Sequence[nn.Module], branches: nn.ModuleList, head: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.branches = branches  # one for each of P3, P4, P5
        self.sources: list[list[int]] = [_sources(layer) for layer in layers]
        self.levels: list[int] = list(head.f)  # layers whose outputs the branches read

    def forward(self, grey: Tensor) -> list[Tensor]:
        """Logits of the three levels, (N, C, S / 8, S / 8) and so on."""
        outputs: list[Tensor] = []
        for layer, sources in zip(self.layers, self.sources, strict=True):
            inputs = [outputs[index] for index in sources] if outputs else [grey]
            outputs.append(layer(inputs if len(inputs) > 1 else inputs[0]))
        return [
            branch(outputs[index]) for branch, index in zip(self.branches, self.levels, strict=True)
        ]


def rewrite(checkpoint: Checkpoint) -> ClassNetwork:
    """The class network of a checkpoint in float64, classes in canonical order."""
    network: Any = copy.deepcopy(checkpoint.network).double().eval()
    fuse_batch_norms(network)
    fix_splits(network)
    *layers, head = network.model
    fold_input(layers[0].conv)
    for branch in head.cv3:
        permute_classes(branch[-1], checkpoint.order)
    return ClassNetwork(layers, head.cv3, head).eval().requires_grad_(False)


def fuse_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm that follows a convolution into it."""
    for module in network.modules():
        convolution, norm = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.conv = fused(convolution, norm)
            module.bn = nn.Identity()


def fused(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution and the batch norm after it as one convolution."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None, "YOLO's batch norms keep statistics"
    scale = norm.weight / torch.sqrt(variance + norm.eps)  # (out,)
    bias = torch.zeros_like(mean) if convolution.bias is None else convolution.bias
    joined = copy.deepcopy(convolution)
    joined.weight = _frozen(convolution.weight * scale[:, None, None, None])
    joined.bias = _frozen(scale * (bias - mean) + norm.bias)
    return joined


def fix_splits(network: nn.Module) -> None:
    """Make C2f blocks split by fixed sizes; chunk would be traced as arithmetic on shapes."""
    block: Any
    for block in network.modules():
        if hasattr(block, "forward_split"):
            block.forward = block.forward_split


def fold_input(convolution: nn.Conv2d) -> None:
    """Make the first convolution read one grey channel of 0..255 instead of RGB of 0..1."""
    convolution.weight = _frozen(convolution.weight.sum(dim=1, keepdim=True) / WHITE)
    convolution.in_channels = 1


def permute_classes(convolution: nn.Conv2d, order: Sequence[int]) -> None:
    """Put the output rows of a class branch into canonical order."""
    assert convolution.bias is not None, "YOLO's last convolutions have a bias"
    convolution.weight = _frozen(convolution.weight[list(order)])
    convolution.bias = _frozen(convolution.bias[list(order)])


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)


def _sources(layer: Any) -> list[int]:
    """Indices of the layers that a layer reads; -1 is the one before it."""
    return [layer.f] if isinstance(layer.f, int) else list(layer.f)
