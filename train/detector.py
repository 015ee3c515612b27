"""One detector: a run of ultralytics' trainer, its weights and its card."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.command_line import DISTRIBUTION
from rsna_lumbar.runtime.files import write_atomically
from rsna_lumbar.runtime.third_party import prepare_third_party
from rsna_lumbar.runtime.versions import versions_of
from rsna_lumbar.train.data_card import data_sha256

_COPIED = (
    "group",
    "size_px",
    "preprocessing",
    "prior",
    "box_fraction",
    "least_box_px",
    "split",
    "images",
)


@dataclass(frozen=True, slots=True)
class DetectorJob:
    """What one training needs to know; it travels to another process."""

    group: str
    data: Path  # folder of the group's data set
    out: Path
    card: Mapping[str, Any]  # of the data set
    options: Mapping[str, Any]  # as the card of the detector records them
    settings: Mapping[str, Any]  # as ultralytics names them
    threads: int | None  # of this process; None leaves it to torch


def train_detector(job: DetectorJob, report: Callable[[str, int], None]) -> None:
    """Train, then write ``OUT/<group>.pt`` and the card.

    Args:
        job: what to train.
        report: called with the group and the number of epochs done, after each.
    """
    prepare_third_party("train")
    import torch

    from rsna_lumbar.train.trainer import LumbarTrainer

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    for stale in job.data.glob("labels/*.cache"):  # ultralytics trusts one where the sizes agree
        stale.unlink()
    overrides = {
        **job.settings,
        "data": str(job.data / "data.yaml"),
        "imgsz": job.card["size_px"],
        "project": str(job.out.resolve()),
        "name": job.group,
    }
    trainer = LumbarTrainer(overrides=overrides)
    trainer.add_callback("on_train_epoch_end", lambda it: report(job.group, it.epoch + 1))
    trainer.train()  # type: ignore[no-untyped-call]
    weights = job.out / job.group / "weights"
    _save_weights(weights / "last.pt", job.out / f"{job.group}.pt")
    shutil.rmtree(weights)
    _write_card(job, trainer.metrics or {})


def _write_card(job: DetectorJob, metrics: Mapping[str, float]) -> None:
    fields = {
        **{key: job.card[key] for key in _COPIED},
        "settings": dict(job.options),
        "validation": {
            name: float(value) for name, value in metrics.items() if math.isfinite(value)
        },
        "data_sha256": data_sha256(job.data),
        "versions": versions_of((DISTRIBUTION, "torch", "ultralytics")),
    }
    text = json.dumps(fields, indent=2, allow_nan=False) + "\n"
    write_atomically(job.out / f"{job.group}.json", text)


def _save_weights(source: Path, target: Path) -> None:
    """Copy the weights without the paths, the date and the git state of this machine."""
    import torch
    from ultralytics import __version__

    saved = torch.load(source, map_location="cpu", weights_only=False)
    model = saved["model"]
    model.yaml["yaml_file"] = Path(model.yaml["yaml_file"]).name
    arguments = {"task": "detect", "imgsz": saved["train_args"]["imgsz"]}
    model.args = dict(arguments)
    kept = {"model": model, "train_args": arguments, "epoch": -1, "version": __version__,
            "license": saved["license"]}  # fmt: skip
    aside = target.with_suffix(".pt.part")
    torch.save(kept, aside)
    aside.replace(target)
