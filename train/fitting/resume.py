"""Interrupted trainings resume, finished ones stay, and no training overwrites another.

    OUT/<group>/job.json     what is trained; written first
    OUT/<group>/run/         ultralytics' own folder; weights/last.pt is replaced after each epoch
    OUT/<group>.pt           after the last epoch
    OUT/<group>.json         the card; with it the training is finished, and run/ is removed

Each file is replaced in one step, so after a kill at any moment, the next call finds one of these
states. A resumed training is not bit-identical to an uninterrupted one: ultralytics continues from
the averaged weights in half precision, and does not store the state of its random numbers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.system.atomic_files import write_atomically

# Settings that may change between calls: they decide where the work is done, not its result.
FREE = frozenset({"device", "workers", "jobs", "threads"})


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """The files of the training of one group, from :func:`training_files`."""

    out: Path
    group: str
    folder: Path
    job: Path
    run: Path
    run_results: Path
    checkpoint: Path
    results: Path
    weights: Path
    card: Path


def training_files(out: Path, group: str) -> TrainingFiles:
    folder, run = out / group, out / group / "run"
    return TrainingFiles(
        out=out,
        group=group,
        folder=folder,
        job=folder / "job.json",
        run=run,
        run_results=run / "results.csv",
        checkpoint=run / "weights" / "last.pt",
        results=folder / "results.csv",
        weights=out / f"{group}.pt",
        card=out / f"{group}.json",
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """Everything that decides the weights; a training resumes only one with an equal identity."""

    settings: Mapping[str, Any]  # by option
    data_sha256: str


def is_finished(files: TrainingFiles, identity: Identity) -> bool:
    """Whether nothing is left to train.

    Raises:
        UsageError: the files belong to another training, or to none of ours.
        DataError: the training is finished, and its weights are not those of its card.
    """
    card = _read(files.card)
    if card is not None:
        _refuse_other(files, card, identity)
        if not files.weights.is_file() or sha256_of(files.weights) != card.get("weights_sha256"):
            raise DataError(
                f"{files.weights} is not what {files.card.name} describes; {_way_out(files)}"
            )
        return True
    job = _read(files.job)
    if job is not None:
        if files.checkpoint.is_file():  # without a checkpoint, nothing can be lost
            _refuse_other(files, job, identity)
    # A name with a dot is that of a file that a killed training was writing.
    elif files.weights.exists() or any(files.folder.glob("[!.]*")):
        raise UsageError(
            f"{files.folder} has results, but no job.json that describes them; {_way_out(files)}"
        )
    return False


def begin(files: TrainingFiles, identity: Identity) -> int:
    """Prepare for the remaining epochs.

    Returns:
        The number of finished epochs; if there are any, training resumes from
        ``files.checkpoint``.
    """
    done, resumed = _epochs_done(files.checkpoint), []
    if done:
        resumed = [*resumed_at(files), done]
        # An epoch's row is written before its checkpoint: drop the row of a repeated epoch.
        lines = files.run_results.read_text(encoding="utf-8").splitlines(keepends=True)
        write_atomically(files.run_results, "".join(lines[: 1 + done]))
    else:
        shutil.rmtree(files.run, ignore_errors=True)
        files.folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "settings": dict(identity.settings),
        "data_sha256": identity.data_sha256,
        "resumed_at": resumed,
    }
    write_atomically(files.job, json.dumps(fields, indent=2) + "\n")
    return done


def resumed_at(files: TrainingFiles) -> list[int]:
    """The numbers of epochs after which the training was resumed."""
    job = _read(files.job) or {}
    return list(job.get("resumed_at", []))


def clean(files: TrainingFiles) -> None:
    """Remove what a finished training does not need."""
    shutil.rmtree(files.run, ignore_errors=True)
    files.job.unlink(missing_ok=True)


def _epochs_done(checkpoint: Path) -> int:
    if not checkpoint.is_file():
        return 0
    import torch

    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    return int(saved["epoch"]) + 1


def _read(path: Path) -> dict[str, Any] | None:
    try:
        fields = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("settings"), dict):
        raise DataError(f"{path} is damaged; move it away, or name another folder")
    return fields


def _refuse_other(files: TrainingFiles, found: Mapping[str, Any], identity: Identity) -> None:
    differences = [
        f"{name} {found['settings'].get(name)}, not {value}"
        for name, value in identity.settings.items()
        if name not in FREE and found["settings"].get(name) != value
    ]
    if found.get("data_sha256") != identity.data_sha256:
        differences.append("other data")
    if differences:
        raise UsageError(
            f"{files.folder} holds another training ({', '.join(differences)}); {_way_out(files)}"
        )


def _way_out(files: TrainingFiles) -> str:
    names = f"{files.group}, {files.weights.name} and {files.card.name}"
    return f"name another folder, or remove {names} from {files.out}"
