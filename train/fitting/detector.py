"""One detector: a run of ultralytics' trainer, its weights and its card."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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

_POLL_S = 0.5
_OF_THE_DATA = ("group", "size_px", "preprocessing", "prior")  # what export asks for
# Of ultralytics' settings: where things lie on this machine, and what it has no use for.
_LEFT_OUT = frozenset({"data", "model", "name", "project", "resume", "save_dir"})


@dataclass(frozen=True, slots=True)
class DetectorJob:
    """What one training needs to know; it travels to another process."""

    data: Path  # folder of the group's data set
    files: TrainingFiles
    card: Mapping[str, Any]  # of the data set
    identity: Identity
    settings: Mapping[str, Any]  # as ultralytics names them
    repeat_rare: int
    threads: int | None  # of this process; None leaves it to torch
    trainer: str  # importable name of its class


def train_detector(job: DetectorJob, report: Callable[[str, int], None]) -> None:
    """Train the epochs that are left, then write ``OUT/<group>.pt`` and the card.

    Args:
        job: what to train.
        report: called with the group and the number of epochs done, in rising order.
    """
    prepare_third_party("train")
    import torch

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    job.files.folder.mkdir(parents=True, exist_ok=True)
    with sole_user(job.files.folder):
        if is_finished(job.files, job.identity):  # by another call, since this one looked
            return
        done = begin(job.files, job.identity)
        with _watched(job.files.run / "results.csv", lambda n: report(job.files.group, n)):
            if done < job.settings["epochs"]:
                _train(job, resume=done > 0)
        _finish(job)


def _train(job: DetectorJob, resume: bool) -> None:
    drop_caches(job.data)  # ultralytics trusts one where the sizes agree
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
    """Remove what ultralytics leaves in a data set."""
    for cache in data.glob("labels/*.cache"):
        cache.unlink(missing_ok=True)  # another training of the same data may be as quick


@contextmanager
def _watched(table: Path, report: Callable[[int], None]) -> Iterator[None]:
    """Report the rows of a table as they come: with several GPUs other processes write them."""
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(table, report, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(table: Path, report: Callable[[int], None], ended: threading.Event) -> None:
    reported, last = 0, False
    while not last:
        last = ended.wait(_POLL_S)
        rows = table.read_bytes().count(b"\n") - 1 if table.exists() else 0
        if rows > reported:
            report(rows)
            reported = rows


def _finish(job: DetectorJob) -> None:
    """Everything here is made again, alike, if it is interrupted before the card is written."""
    import torch

    from rsna_lumbar.train.fitting.trainer import METRICS

    files = job.files
    saved = torch.load(files.checkpoint, map_location="cpu", weights_only=False)
    settings = {key: value for key, value in saved["train_args"].items() if key not in _LEFT_OUT}
    measured = json.loads((files.run / METRICS).read_bytes())
    _save_weights(saved, files.weights)
    results = (files.run / "results.csv").read_text(encoding="utf-8")
    write_atomically(files.folder / "results.csv", results)
    draw_curves(files.folder / "results.csv", files.folder / "curves.png", title=files.group)
    _write_card(job, measured, settings)
    clean(files)


def _write_card(job: DetectorJob, measured: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    fields = {
        **{key: job.card[key] for key in _OF_THE_DATA},
        "settings": dict(job.identity.settings),
        "resumed_at": resumed_at(job.files),
        **measured,
        "weights_sha256": sha256_of(job.files.weights),
        "data_sha256": job.identity.data_sha256,
        "data": dict(job.card),
        "ultralytics": dict(settings),
        "versions": versions_of((DISTRIBUTION, "torch", "ultralytics")),
    }
    write_atomically(job.files.card, json.dumps(fields, indent=2, allow_nan=False) + "\n")


def _save_weights(saved: Mapping[str, Any], target: Path) -> None:
    """Keep of a checkpoint the averaged weights, without paths, date and state of this machine."""
    import torch

    model = saved["ema"].half().requires_grad_(False)
    model.to(memory_format=torch.contiguous_format)  # in which all that reads weights expects them
    model.yaml["yaml_file"] = Path(model.yaml.get("yaml_file", "")).name
    arguments = {"task": "detect", "imgsz": saved["train_args"]["imgsz"]}
    model.args = dict(arguments)
    kept = {"model": model, "train_args": arguments, "epoch": -1, "version": saved["version"],
            "license": saved["license"]}  # fmt: skip
    with atomic_file(target) as stream:
        torch.save(kept, stream)
