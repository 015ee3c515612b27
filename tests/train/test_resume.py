"""A training killed anywhere goes on; a finished one, or another one, is not touched."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from yolo_sets import write_data

from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.train.fitting.fit import FitOptions, fit
from rsna_lumbar.train.fitting.resume import (
    Identity,
    TrainingFiles,
    begin,
    clean,
    is_finished,
    training_files,
)

OPTIONS = FitOptions(model="demo", epochs=3, batch_size=3, device="cpu")
IDENTITY = Identity({"epochs": 3, "workers": 8}, "ab")

KILLED = Path(__file__).parents[1] / "support" / "killed_training.py"
TRAINER, DETECTOR = (f"rsna_lumbar.train.fitting.{name}" for name in ("trainer", "detector"))
MOMENTS = (
    # (module, function, the call that is killed, epochs in the table, epochs to resume from)
    (TRAINER, "publish_checkpoint", 1, 1, 0),  # the first checkpoint is only aside
    (TRAINER, "publish_checkpoint", 2, 2, 1),  # the second checkpoint is only aside
    (DETECTOR, "draw_curves", 1, 3, 3),  # all trained, weights written
    (DETECTOR, "clean", 1, 3, 3),  # and the card
)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[list[int]]]:
    """(data, out, states after each kill) of one training, killed at every moment in turn."""
    root = tmp_path_factory.mktemp("killed")
    write_data(root / "data" / "spinal", {"train": 6, "val": 2})
    moments = json.dumps([moment[:3] for moment in MOMENTS])
    words = [sys.executable, KILLED, root / "data", root / "out", moments]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return root / "data", root / "out", [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_training_killed_anywhere_goes_on(
    killed: tuple[Path, Path, list[list[int]]],
) -> None:
    data, out, states = killed
    assert states == [[signal.SIGKILL, *moment[3:]] for moment in MOMENTS]
    (fitted,) = fit(data, [SPINAL], out, OPTIONS)
    assert fitted.already  # the last kill came after the card
    names = {"spinal.json", "spinal.pt", "spinal/curves.png", "spinal/results.csv"}
    assert set(contents(out)) == names
    card = json.loads((out / "spinal.json").read_text())
    assert card["resumed_at"] == [1, 3]
    rows = (out / "spinal" / "results.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "1", "2", "3"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_finished_training_is_left_alone(
    killed: tuple[Path, Path, list[list[int]]],
) -> None:
    data, out, _ = killed
    fit(data, [SPINAL], out, OPTIONS)
    before = contents(out)
    (fitted,) = fit(data, [SPINAL], out, replace(OPTIONS, workers=2, threads=2))
    assert fitted.already
    assert contents(out) == before
    with pytest.raises(UsageError, match="seed 0, not 1"):
        fit(data, [SPINAL], out, replace(OPTIONS, seed=1))
    assert contents(out) == before


def make_started(out: Path, identity: Identity = IDENTITY) -> TrainingFiles:
    files = training_files(out, "spinal")
    assert not is_finished(files, identity)
    assert begin(files, identity) == 0
    return files


def make_finished(out: Path) -> TrainingFiles:
    from rsna_lumbar.runtime.bundle.store import sha256_of

    files = make_started(out)
    files.weights.write_bytes(b"weights")
    card: dict[str, Any] = {
        "settings": dict(IDENTITY.settings),
        "data_sha256": IDENTITY.data_sha256,
        "weights_sha256": sha256_of(files.weights),
    }
    files.card.write_text(json.dumps(card))
    return files


def make_half_done(out: Path) -> TrainingFiles:
    files = make_started(out)
    files.checkpoint.parent.mkdir(parents=True)
    files.checkpoint.write_bytes(b"an epoch")
    return files


def test_a_start_that_came_to_nothing_is_in_nobodys_way(tmp_path: Path) -> None:
    files = make_started(tmp_path)
    other = replace(IDENTITY, settings={"epochs": 4, "workers": 8})
    assert not is_finished(files, other)
    assert begin(files, other) == 0
    assert json.loads(files.job.read_text())["settings"] == other.settings


@pytest.mark.parametrize("make", [make_half_done, make_finished])
def test_another_training_is_not_overwritten(tmp_path: Path, make: Any) -> None:
    files = make(tmp_path)
    with pytest.raises(UsageError, match=r"\(epochs 3, not 4\); name another folder, or remove"):
        is_finished(files, replace(IDENTITY, settings={"epochs": 4, "workers": 8}))
    with pytest.raises(UsageError, match="other data"):
        is_finished(files, replace(IDENTITY, data_sha256="cd"))
    elsewhere = replace(IDENTITY, settings={"epochs": 3, "workers": 1})
    assert is_finished(files, elsewhere) is (make is make_finished)


def test_weights_that_changed_are_told(tmp_path: Path) -> None:
    files = make_finished(tmp_path)
    files.weights.write_bytes(b"other")
    with pytest.raises(DataError, match=r"not what spinal\.json describes"):
        is_finished(files, IDENTITY)
    files.weights.unlink()
    with pytest.raises(DataError, match=r"not what spinal\.json describes"):
        is_finished(files, IDENTITY)


@pytest.mark.parametrize("name", ["spinal.pt", "spinal/results.csv"])
def test_files_of_something_else_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=r"no job\.json"):
        is_finished(training_files(tmp_path, "spinal"), IDENTITY)


def test_a_training_without_a_checkpoint_begins_again(tmp_path: Path) -> None:
    files = make_started(tmp_path)
    files.checkpoint.parent.mkdir(parents=True)
    files.checkpoint.with_suffix(".part").write_bytes(b"half of the first")
    assert not is_finished(files, IDENTITY)
    assert begin(files, IDENTITY) == 0
    assert set(contents(tmp_path)) == {"spinal/job.json"}


def test_what_a_kill_left_of_the_first_file_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "spinal").mkdir()
    (tmp_path / "spinal" / ".job.json.part").write_text("{")
    assert not is_finished(training_files(tmp_path, "spinal"), IDENTITY)


def test_a_damaged_card_is_told(tmp_path: Path) -> None:
    files = make_finished(tmp_path)
    files.card.write_text("{")
    with pytest.raises(DataError, match=r"spinal\.json is damaged"):
        is_finished(files, IDENTITY)


def test_only_its_own_files_are_removed(tmp_path: Path) -> None:
    files = make_finished(tmp_path)
    (tmp_path / "spinal" / ".git").mkdir(parents=True)
    (tmp_path / "spinal" / ".gitkeep").touch()
    clean(files)
    assert set(contents(tmp_path)) == {"spinal.pt", "spinal.json", "spinal/.gitkeep"}
