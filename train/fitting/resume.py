"""An interrupted training goes on, a finished one stays, and none is overwritten by another.

    OUT/<group>/job.json     what is trained; written before anything else
    OUT/<group>/run/         ultralytics' own folder; weights/last.pt is replaced after each epoch
    OUT/<group>.pt           after the last epoch
    OUT/<group>.json         the card; with it the training is finished, and run/ goes

Each file is replaced in one step, so whatever the moment of a kill, the next call finds one of
these states. A resumed training is not bit-identical to one that ran through: ultralytics goes on
from the averaged weights in half precision, and forgets where its random numbers were.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.system.atomic_files import write_atomically

# Settings that may change on the way: they say where the work is done, not what comes out.
FREE = frozenset({"device", "workers", "jobs", "threads"})


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """Where the training of one group keeps what."""

    out: Path
    group: str

    @property
    def folder(self) -> Path:
        return self.out / self.group

    @property
    def job(self) -> Path:
        return self.folder / "job.json"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def checkpoint(self) -> Path:
        return self.run / "weights" / "last.pt"

    @property
    def weights(self) -> Path:
        return self.out / f"{self.group}.pt"

    @property
    def card(self) -> Path:
        return self.out / f"{self.group}.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides the weights; equal identities may go on with each other's work."""

    settings: Mapping[str, Any]  # by option
    data_sha256: str


def is_finished(files: TrainingFiles, identity: Identity) -> bool:
    """Whether nothing is left to train.

    Raises:
        UsageError: another training lies there, or files that no training of ours left.
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
        if files.checkpoint.is_file():  # without one, nothing was trained that could be lost
            _refuse_other(files, job, identity)
    elif files.weights.exists() or _holds_anything(files.folder):
        raise UsageError(
            f"{files.folder} has results, yet no job.json that says of what; {_way_out(files)}"
        )
    return False


def begin(files: TrainingFiles, identity: Identity) -> int:
    """Make ready for the epochs that are left.

    Returns:
        The number of epochs done: from 1 on, training resumes from ``files.checkpoint``.
    """
    done = _epochs_done(files.checkpoint)
    if not done:
        shutil.rmtree(files.run, ignore_errors=True)
        files.folder.mkdir(parents=True, exist_ok=True)
        _write_job(files, identity, [])
        return 0
    _cut_results(files.run / "results.csv", done)
    _write_job(files, identity, [*resumed_at(files), done])
    return done


def resumed_at(files: TrainingFiles) -> list[int]:
    """The numbers of epochs after which the training was taken up again."""
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


def _cut_results(table: Path, epochs: int) -> None:
    """An epoch's row is written before its checkpoint: drop one that will be done again."""
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    write_atomically(table, "".join(lines[: 1 + epochs]))


def _write_job(files: TrainingFiles, identity: Identity, resumed: list[int]) -> None:
    fields = {
        "settings": dict(identity.settings),
        "data_sha256": identity.data_sha256,
        "resumed_at": resumed,
    }
    write_atomically(files.job, json.dumps(fields, indent=2) + "\n")


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
    differences = list(_differences(found["settings"], identity.settings))
    if found.get("data_sha256") != identity.data_sha256:
        differences.append("other data")
    if differences:
        raise UsageError(
            f"{files.folder} holds another training ({', '.join(differences)}); {_way_out(files)}"
        )


def _differences(found: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    for name, value in asked.items():
        if name not in FREE and found.get(name) != value:
            yield f"{name} {found.get(name)}, not {value}"


def _way_out(files: TrainingFiles) -> str:
    names = f"{files.group}, {files.weights.name} and {files.card.name}"
    return f"name another folder, or remove {names} from {files.out}"


def _holds_anything(folder: Path) -> bool:
    """A name with a dot is of a file that was being written when a training was killed."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
