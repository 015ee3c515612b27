"""One detector: a run of ultralytics' trainer, its weights and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.system.atomic_files import atomic_file, sole_user, write_atomically
from rsna_lumbar.runtime.system.entry_point import DISTRIBUTION
from rsna_lumbar.runtime.system.machine import versions_of
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party
from rsna_lumbar.train.fitting.curves import draw_curves
from rsna_lumbar.train.fitting.parallel import mark_as_starter
from rsna_lumbar.train.fitting.rare_grades import SLICE_LIST, write_slice_list
from rsna_lumbar.train.fitting.resume import (
    Identity,
    TrainingFiles,
    begin,
    clean,
    is_finished,
    resumed_at,
)

_OF_THE_DATA = ("group", "size_px", "preprocessing", "prior")  # fields that export reads
# Settings of ultralytics that are not recorded: paths of this machine, and unused ones.
_LEFT_OUT = frozenset({"data", "model", "name", "project", "resume", "save_dir"})


@dataclass(frozen=True, slots=True)
class DetectorJob:
    """Everything that one training needs; it is passed to another process."""

    data: Path  # the group's data set
    files: TrainingFiles
    card: Mapping[str, Any]  # the data set's card
    identity: Identity
    settings: Mapping[str, Any]  # by ultralytics' names
    repeat_rare: int
    threads: int | None  # of this process; None leaves it to torch
    trainer: str  # importable name of its class


def train_detector(job: DetectorJob) -> None:
    """Train the remaining epochs, then write ``OUT/<group>.pt`` and the card."""
    prepare_third_party("train")
    import torch

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    job.files.folder.mkdir(parents=True, exist_ok=True)
    with sole_user(job.files.folder):
        if is_finished(job.files, job.identity):  # by another call, after this one checked
            return
        done = begin(job.files, job.identity)
        if done < job.settings["epochs"]:
            _train(job, resume=done > 0)
        _finish(job)


def _train(job: DetectorJob, resume: bool) -> None:
    drop_caches(job.data)  # ultralytics trusts a cache if sizes agree
    overrides = {
        **job.settings,
        "data": str(job.data.resolve() / "data.yaml"),
        "imgsz": job.card["size_px"],
        "save_dir": str(job.files.run.resolve()),
    }
    if resume:
        overrides["resume"] = str(job.files.checkpoint.resolve())
    write_slice_list(job.data, job.files.run / SLICE_LIST, job.repeat_rare)
    mark_as_starter()
    module, _, name = job.trainer.rpartition(".")
    getattr(import_module(module), name)(overrides=overrides).train()


def drop_caches(data: Path) -> None:
    """Remove the caches that ultralytics leaves in a data set."""
    for cache in data.glob("labels/*.cache"):
        cache.unlink(missing_ok=True)  # another training of the same data may remove it too


def _finish(job: DetectorJob) -> None:
    """If this is interrupted before the card is written, it is repeated with the same result."""
    import torch

    from rsna_lumbar.train.fitting.trainer import METRICS

    files = job.files
    saved = torch.load(files.checkpoint, map_location="cpu", weights_only=False)
    _save_weights(saved, files.weights)
    write_atomically(files.results, files.run_results.read_text(encoding="utf-8"))
    draw_curves(files.results, files.folder / "curves.png", title=files.group)
    fields = {
        **{key: job.card[key] for key in _OF_THE_DATA},
        "settings": dict(job.identity.settings),
        "resumed_at": resumed_at(files),
        **json.loads((files.run / METRICS).read_bytes()),
        "weights_sha256": sha256_of(files.weights),
        "data_sha256": job.identity.data_sha256,
        "data": dict(job.card),
        "ultralytics": {k: v for k, v in saved["train_args"].items() if k not in _LEFT_OUT},
        "versions": versions_of((DISTRIBUTION, "torch", "ultralytics")),
    }
    write_atomically(files.card, json.dumps(fields, indent=2, allow_nan=False) + "\n")
    clean(files)


def _save_weights(saved: Mapping[str, Any], target: Path) -> None:
    """Keep only the averaged weights of a checkpoint, without paths, dates and random state."""
    import torch

    model = saved["ema"].half().requires_grad_(False)
    model.to(memory_format=torch.contiguous_format)  # as readers of weights expect it
    model.yaml["yaml_file"] = Path(model.yaml.get("yaml_file", "")).name
    arguments = {"task": "detect", "imgsz": saved["train_args"]["imgsz"]}
    model.args = dict(arguments)
    kept = {"model": model, "train_args": arguments, "epoch": -1, "version": saved["version"],
            "license": saved["license"]}  # fmt: skip
    with atomic_file(target) as stream:
        torch.save(kept, stream)
