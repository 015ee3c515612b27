"""Prepared data set -> a YOLOv8 detector and its card.

    OUT/<group>.pt        weights (float16, as ultralytics saves them), no paths inside
    OUT/<group>.json      card: prior rows, image size, preprocessing, settings, versions, data hash
    OUT/<group>/          args.yaml (every setting of ultralytics) and results.csv

The weights are the exponential moving average after the last epoch, not those of the "best"
one: the learning rate has run down by then, and the fitness that would choose is the mean average
precision of boxes on few validation images, which has little to do with the metric.

Flips are off. A horizontal flip turns left classes into right ones on axial slices and front into
back on sagittal ones; a vertical flip turns L1 into S1. Shift and scale keep sides and levels.
On a CPU the groups are trained side by side, one thread each: two threads took twice the processor
time for the same work (batch 16, 160 px, YOLOv8 at an eighth of its width, two cores), and up to
sixty times where other processes were busy too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.errors import UsageError
from rsna_lumbar.runtime.labels import Group
from rsna_lumbar.runtime.processes import usable_cores
from rsna_lumbar.runtime.third_party import prepare_third_party
from rsna_lumbar.train.data_card import read_card
from rsna_lumbar.train.detector import DetectorJob, train_detector
from rsna_lumbar.train.side_by_side import run_side_by_side

DEMO_MODEL = "demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """What can be chosen; everything else is fixed below, or ultralytics' default."""

    model: str = "yolov8n.yaml"  # from nothing; "demo", another .yaml, or a .pt to start from
    epochs: int = 50
    batch_size: int = 16
    learning_rate: float = 0.002  # of AdamW, falling to a hundredth of it
    translate: float = 0.1  # largest shift, as a share of the image
    scale: float = 0.2  # largest change of size, as a share
    mosaic: float = 0.0  # share of images made of four; small synthetic sets learn less with it
    seed: int = 0
    device: str = "auto"  # "cpu", "0", "0,1" as ultralytics names them
    workers: int = 8  # loading processes; ultralytics loads in the main one on a CPU
    jobs: int = 0  # trainings at a time; 0: one per core on a CPU, one on a GPU
    threads: int = 1  # of each training, on a CPU


def fit(
    data: Path,
    groups: Sequence[Group],
    out: Path,
    options: FitOptions,
    *,
    progress: Callable[[str, int], None] | None = None,
) -> None:
    """Train one detector per group.

    Args:
        data: folder that ``rsna-train prepare`` wrote.
        groups: which detectors.
        out: folder of the results; those of other groups in it stay.
        progress: called with the group's name and the number of epochs done, after each.

    Raises:
        DataError: a group's data set is missing, unfinished or without images.
        UsageError: ultralytics is not installed, or there is no such model or device.
    """
    if out.resolve() == data.resolve():
        raise UsageError(f"{out} is the data set; name another folder for the results")
    cards = {group: read_card(data / group.name, group) for group in groups}
    prepare_third_party("train")
    device = _device(options.device)
    jobs = options.jobs or (usable_cores() if device == "cpu" else 1)
    work = [
        DetectorJob(
            group=group.name,
            data=data / group.name,
            out=out,
            card=cards[group],
            options=asdict(options),
            settings=_settings(options, device),
            threads=options.threads if device == "cpu" else None,
        )
        # The largest first, so that no core is idle for long at the end.
        for group in sorted(groups, key=lambda group: -cards[group]["images"]["train"])
    ]
    run_side_by_side(train_detector, work, jobs, progress or _silent)


def _silent(_: str, __: int) -> None:
    pass


def _settings(options: FitOptions, device: str) -> dict[str, Any]:
    return {
        "task": "detect",
        "mode": "train",
        "model": _model(options.model),
        "device": device,
        "workers": options.workers,
        "epochs": options.epochs,
        "patience": options.epochs,  # no stopping early: see the module's docstring
        "batch": options.batch_size,
        "nbs": options.batch_size,  # a step after every batch
        "optimizer": "AdamW",
        "lr0": options.learning_rate,
        "warmup_bias_lr": 0.0,  # ultralytics' 0.1 is meant for SGD
        "seed": options.seed,
        "deterministic": True,
        "amp": device != "cpu",
        "val": False,  # only after the last epoch
        "plots": False,
        "exist_ok": True,
        "fliplr": 0.0,
        "flipud": 0.0,
        "mosaic": options.mosaic,
        "translate": options.translate,
        "scale": options.scale,
        "hsv_h": 0.0,
        "hsv_s": 0.0,
    }


def _model(name: str) -> str:
    if name == DEMO_MODEL:
        return str(Path(__file__).with_name("yolov8-demo.yaml"))
    if name.endswith(".pt") and not Path(name).is_file():
        raise UsageError(f"{name} does not exist; weights are never downloaded")
    if not name.endswith((".pt", ".yaml", ".yml")):
        raise UsageError(f"{name!r} is no model: name {DEMO_MODEL}, a .yaml or a .pt file")
    return name


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "0" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"device {name!r} cannot be had: torch sees no GPU; use --device cpu")
    return name
