"""Detectors with random weights and realistic activations, for tests and for timing.

A network as initialised by ultralytics gives nearly the same number for every slice, so comparing
it proves nothing. Here the batch norms get random scales and offsets and the statistics of textured
slices, and the class branches are scaled so that the logits spread as in a trained detector: most
cells far below zero, the highest of a slice from about -8 to 2.

No channel's variance is taken below the mean of its layer. Otherwise weak channels would be
stretched in each of twenty layers, and the rounding of float32 would grow to 3e-3 in a logit. In
trained networks it is 1e-5.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from rsna_lumbar.runtime.core.labels import Group
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

CALIBRATION_SLICES = 8
CALIBRATION_SIZE_PX = 192
LOGIT_RANGE = 3.0  # from the mean over cells to the highest
HIGHEST_LOGIT = -3.0  # of a slice and class, in the middle of the classes
CLASS_OFFSETS = (-3.0, 3.0)  # from the first class to the last
# Standard deviation over slices of the highest logit, in the median class; with less, a comparison
# proves little. Seen, for all scales and groups: 0.35 to 0.45.
LEAST_SPREAD = 0.25
GRAINS_PX = (4, 8, 16, 32)


def random_detector(
    group: Group,
    *,
    scale: str = "n",
    channels: int = 3,
    names: Sequence[str] | None = None,
    size_px: int = CALIBRATION_SIZE_PX,
    seed: int = 0,
) -> Any:
    """Make a YOLOv8 detection model whose outputs vary from slice to slice and class to class.

    Args:
        scale: n, s, m, l or x.
        channels: 1 or 3.
        names: class names in the model's own order; None takes the canonical names.
        size_px: side of the slices that its statistics are taken from.
    """
    prepare_third_party("export")
    from ultralytics.nn.tasks import DetectionModel

    names = tuple(names or group.classes)
    slices = textured_slices(CALIBRATION_SLICES, size_px, seed=seed)
    grey = torch.from_numpy(slices)[:, None].to(torch.float32) / 255  # (N, 1, S, S)
    images = grey.expand(-1, channels, -1, -1)
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(seed)
        model = DetectionModel(  # type: ignore[no-untyped-call]
            f"yolov8{scale}.yaml", ch=channels, nc=len(names), verbose=False
        )
        model.names = dict(enumerate(names))
        _settle_batch_norms(model, images)
        _spread_logits(model, images)
    return model.eval()


def save_checkpoint(model: Any, path: Path, *, size_px: int = 384) -> None:
    """Save a model as a ``.pt`` file like those of ultralytics' training."""
    saved = copy.deepcopy(model).half()  # as ultralytics saves it
    torch.save({"model": saved, "ema": None, "train_args": {"imgsz": size_px}}, path)


def textured_slices(count: int, size_px: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise of several grains, (count, size_px, size_px) uint8."""
    generator = np.random.default_rng(seed)
    return np.stack([_textured(generator, size_px) for _ in range(count)])


def highest_logits(model: Any, images: Tensor) -> Tensor:
    """Highest class logit of each slice, (N, C)."""
    return torch.cat([z.flatten(2) for z in _class_logits(model, images)], dim=2).amax(dim=2)


def _textured(generator: np.random.Generator, size_px: int) -> NDArray[np.uint8]:
    picture = np.zeros((size_px, size_px))
    for grain in GRAINS_PX:
        cells = -(-size_px // grain)
        noise = generator.normal(size=(cells, cells)) * generator.uniform(0, 1)
        smooth = Image.fromarray(noise.astype(np.float32)).resize(
            (size_px, size_px), Image.Resampling.BICUBIC
        )
        picture += np.asarray(smooth)
    contrast = generator.uniform(25, 45) / picture.std()
    grey = generator.uniform(80, 160) + contrast * picture
    return np.asarray(np.clip(grey, 0, 255), np.uint8)


def _settle_batch_norms(model: Any, images: Tensor) -> None:
    """Random scales and offsets, and statistics of each layer, in one pass."""

    def take_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        variance = inputs[0].var(dim=(0, 2, 3))
        norm.running_mean = inputs[0].mean(dim=(0, 2, 3))
        norm.running_var = torch.maximum(variance, variance.mean())

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.uniform_(0.5, 1.0)
        norm.bias.normal_(0.7, 0.3)
    hooks = [norm.register_forward_pre_hook(take_statistics) for norm in norms]
    model.eval()
    model(images)
    for hook in hooks:
        hook.remove()


def _spread_logits(model: Any, images: Tensor) -> None:
    branches = model.model[-1].cv3
    for branch in branches:
        branch[-1].bias.zero_()
    for branch, logits in zip(branches, _class_logits(model, images), strict=True):
        above = logits.amax(dim=(0, 2, 3)) - logits.mean(dim=(0, 2, 3))  # (C,)
        branch[-1].weight.mul_((LOGIT_RANGE / above)[:, None, None, None])
    middle = highest_logits(model, images).mean(dim=0)  # (C,)
    offset = HIGHEST_LOGIT - middle + torch.linspace(*CLASS_OFFSETS, len(middle))
    for branch in branches:
        branch[-1].bias.add_(offset)
    spread = float(highest_logits(model, images).std(dim=0).median())
    assert spread > LEAST_SPREAD, f"the outputs hardly vary (standard deviation {spread:.2g})"


def _class_logits(model: Any, images: Tensor) -> list[Tensor]:
    """Logits of the class branches, (N, C, H, H) for each level."""
    found: list[Tensor] = []
    hooks = [
        branch.register_forward_hook(lambda _module, _inputs, output: found.append(output))
        for branch in model.model[-1].cv3
    ]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found
