"""ultralytics' detection trainer: offline, side-safe, no best epoch, atomic checkpoints.

With several GPUs, ultralytics starts processes that import the trainer by name. Call
:func:`rsna_lumbar.runtime.system.ultralytics_env.prepare_third_party` before importing it.
"""

from __future__ import annotations

import json
import math
import os
from copy import copy
from pathlib import Path
from typing import Any

import torch
from ultralytics.data.augment import Compose
from ultralytics.data.dataset import YOLODataset
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, YAML

from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.fitting.flips import SideSafeFlip, swapped_classes
from rsna_lumbar.train.fitting.parallel import end_with_starter
from rsna_lumbar.train.fitting.rare_grades import SLICE_LIST

METRICS = "metrics.json"  # in the trainer's folder; of the last validated epoch
CLASS_METRICS = ("precision", "recall", "map50", "map50_95")  # of DetMetrics.class_result


class SideSafeDataset(YOLODataset):
    """``fliplr`` of ultralytics' settings is the share of slices that are mirrored side-safely.

    Raises:
        UsageError: the share is above 0, and a class does not belong to axial slices.
    """

    def build_transforms(self, hyp: Any) -> Compose:
        """Called again when mosaics end, with the same share in the settings."""
        unflipped = copy(hyp)
        unflipped.fliplr = 0.0
        transforms = super().build_transforms(unflipped)
        if self.augment and hyp.fliplr > 0:
            names = [self.data["names"][index] for index in range(len(self.data["names"]))]
            # In the place of ultralytics' own flip: the last before the arrays become tensors.
            flip = SideSafeFlip(hyp.fliplr, swapped_classes(names))
            transforms.insert(-1, flip)  # type: ignore[no-untyped-call]
        return transforms


class LumbarTrainer(DetectionTrainer):
    """Trains on a folder made by ``rsna-train prepare``."""

    dataset_class: type[YOLODataset] = SideSafeDataset

    def __init__(
        self,
        cfg: Any = DEFAULT_CFG,
        overrides: dict[str, Any] | None = None,
        _callbacks: dict[str, Any] | None = None,
    ) -> None:
        """Also called in the processes that ultralytics starts for several GPUs."""
        prepare_third_party("train")
        end_with_starter()
        super().__init__(cfg, overrides, _callbacks)
        # No fitness equals it, so no best.pt is written.
        self.best_fitness = math.nan  # type: ignore[assignment]

    def get_dataset(self) -> dict[str, Any]:
        """Read data.yaml. ultralytics' own reader would also download a font."""
        file = Path(self.args.data)
        data = YAML.load(file)  # type: ignore[no-untyped-call]
        return {
            "path": file.parent,
            "train": str(self.save_dir / SLICE_LIST),
            "val": str(file.parent / data["val"]),
            "channels": data["channels"],
            "names": data["names"],
            "nc": len(data["names"]),
            "yaml_file": str(file),
        }

    def get_model(self, *args: Any, **kwargs: Any) -> Any:
        """On a CPU, with the memory format in which convolutions are fastest."""
        model = super().get_model(*args, **kwargs)
        if self.device.type == "cpu":
            model.to(memory_format=torch.channels_last)
        return model

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """On a CPU, all weights are updated by one kernel, in half the time."""
        optimizer: torch.optim.Optimizer = super().build_optimizer(*args, **kwargs)  # type: ignore[no-untyped-call]
        fit_to_device(optimizer, self.device)
        return optimizer

    def resume_training(self, ckpt: Any) -> None:
        """The device may be of another kind than the one that the training began on."""
        super().resume_training(ckpt)  # type: ignore[no-untyped-call]
        optimizer: Any = self.optimizer
        fit_to_device(optimizer, self.device)

    def build_dataset(
        self, img_path: str, mode: str = "train", batch: int | None = None
    ) -> YOLODataset:
        """Of our class; validation squares have the size that the detector will read."""
        return self.dataset_class(
            img_path=img_path,
            imgsz=self.args.imgsz,
            batch_size=batch or self.args.batch,
            augment=mode == "train",
            hyp=self.args,
            prefix=f"{mode}: ",
            task="detect",
            data=self.data,
        )

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Write the metrics to a file: with several GPUs they come from another process."""
        metrics, fitness = super().validate()  # type: ignore[no-untyped-call]
        if metrics is not None:  # None in all processes but the first
            validator: Any = self.validator
            fields = {
                "validation": {name: _finite(value) for name, value in metrics.items()},
                "classes": metrics_by_class(validator.metrics),
            }
            write_atomically(self.save_dir / METRICS, json.dumps(fields) + "\n")
        return metrics, fitness

    def save_model(self) -> bool:
        """Replace last.pt atomically; ultralytics would overwrite it in place."""
        target = self.last
        self.last = target.with_suffix(".part")
        try:
            super().save_model()  # type: ignore[no-untyped-call]
            publish_checkpoint(self.last, target)
        finally:
            self.last = target
        return True

    def final_eval(self) -> None:
        """Keep the last weights, which were validated in the last epoch."""


def fit_to_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Use one kernel for all weights on a CPU, and give moments the memory format of their weights.

    A checkpoint has both from the device that wrote it. The kernels ignore the moments' format: a
    GPU refuses another one; a CPU would read the wrong elements.
    """
    for group in optimizer.param_groups:
        group["fused"] = device.type == "cpu" or None
    for weight, state in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            if name in state:
                state[name] = torch.empty_like(weight).copy_(state[name])


def metrics_by_class(measured: Any) -> dict[str, dict[str, float | int | None]]:
    """The metrics of ultralytics' ``DetMetrics`` by class name.

    ``boxes`` is the number of validation boxes; the other metrics are None if there is none.
    """
    row_of = {int(index): row for row, index in enumerate(measured.ap_class_index)}
    found: dict[str, dict[str, float | int | None]] = {}
    for index, name in measured.names.items():
        known = index in row_of
        values = measured.class_result(row_of[index]) if known else [math.nan] * len(CLASS_METRICS)
        found[name] = {"boxes": int(measured.nt_per_class[index])}
        found[name] |= zip(CLASS_METRICS, map(_finite, values), strict=True)
    return found


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def publish_checkpoint(written: Path, target: Path) -> None:
    """Flush a file to the disk and rename it."""
    with written.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(written, target)
