"""The recipe on a tiny phantom: six commands, killed in the middle of each and started again."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from challenge import contents
from toys import write_toy_bundle

from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.train.phantom import PhantomOptions, make_phantom

RECIPE = Path(__file__).parents[2] / "benchmarks" / "recipe"
KILLED_AT_SIGN = Path(__file__).parents[1] / "support" / "killed_at_sign"
SETTINGS = {
    "PREPARE": "--image-size 64 --workers 1",
    "FIT": "--model demo --device cpu --epochs 2 --jobs 1",
    "FIT_SPINAL": "--model demo --device cpu --epochs 1",
    "OMP_NUM_THREADS": "1",
}
# What is there once a command is at work, or nearly done.
SIGNS = (
    ("rsna-export", "bundle/bundle.json"),
    ("calibrate", "bundle/bundle.json"),
    ("rsna-run", "submission.csv"),
    ("evaluate", "figures/*.png"),
)
TIMED = "submission.run.json"  # says when it was made

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("rsna-train") is None,
    reason="needs bash and the installed commands; the recipe was not run",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "root"
    options = PhantomOptions(
        studies=6,
        test_studies=1,  # the challenge's root holds test_images too
        seed=4,
        matrix_px=64,
        slices_sagittal=9,
        slices_axial=12,
        grade_frequencies=(0.4, 0.3, 0.3),
    )
    make_phantom(root, options)
    return root


@dataclass(frozen=True, slots=True)
class Killed:
    """A recipe that was killed in the middle of each command and came to its end."""

    work: Path
    weights: dict[str, bytes]  # that were finished when the training was killed


@pytest.fixture(scope="module")
def killed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    work = tmp_path_factory.mktemp("killed") / "work"
    run_until("prepare", "prepared.partial/foraminal", root, work)
    write_toy_bundle(work / "bundle")  # of other weights, and older than those to come
    stale = contents(work / "bundle")
    run_until("fit", "weights/subarticular/run/weights/last.pt", root, work)  # the first epoch's
    weights = {path.name: path.read_bytes() for path in (work / "weights").glob("*.pt")}
    assert contents(work / "bundle") == stale
    run_until("rsna-export", "bundle/.rsna-export/*.onnx", root, work)
    (work / "bundle" / "bundle.json").unlink()  # so that the next one to be seen is the new one
    for command, sign in SIGNS:
        run_until(command, sign, root, work)
    run_to_its_end(root, work)
    return Killed(work, weights)


@pytest.fixture(scope="module")
def whole(root: Path, killed: Killed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WORK of a recipe with the same weights that nobody interrupted."""
    work = tmp_path_factory.mktemp("whole") / "work"
    shutil.copytree(killed.work / "weights", work / "weights")
    assert "Score (mean)" in run_to_its_end(root, work)
    return work


def run_to_its_end(root: Path, work: Path) -> str:
    """What it prints."""
    done = subprocess.run(
        [RECIPE, root, work], env=os.environ | SETTINGS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_ends_with_a_scored_submission(root: Path, whole: Path) -> None:
    listed = (whole / "prepared" / "val_studies.csv").read_text().split()[1:]
    with (whole / "submission.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 25 * len(listed)
    assert {row["row_id"].split("_")[0] for row in rows} == set(listed)
    assert {path.name for path in (whole / "figures").iterdir()} == {
        "reliability.png",
        "confusion.png",
    }


def run_until(command: str, sign: str, root: Path, work: Path) -> None:
    """Have a command kill itself and the whole recipe as soon as a file is there.

    From outside, a sign may come and go unseen.
    """
    paths = [str(KILLED_AT_SIGN), *filter(None, [os.environ.get("PYTHONPATH")])]
    killing = {
        "PYTHONPATH": os.pathsep.join(paths),
        "KILL_COMMAND": command,
        "KILL_SIGN": str(work / sign),
    }
    recipe = subprocess.run(
        [RECIPE, root, work],
        env=os.environ | SETTINGS | killing,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert recipe.returncode == -signal.SIGKILL
    assert list(work.glob(sign))


def test_killed_in_each_command_it_ends_with_the_same_bytes(killed: Killed, whole: Path) -> None:
    found, expected = contents(killed.work), contents(whole)
    assert found.pop(TIMED) and expected.pop(TIMED)
    assert sorted(found) == sorted(expected)
    manifest = "bundle/bundle.json"
    assert untimed(found.pop(manifest)) == untimed(expected.pop(manifest))
    assert [name for name in found if found[name] != expected[name]] == []


def test_killed_in_training_what_was_finished_stays(killed: Killed) -> None:
    """And the bundle is of the weights that the training ended with."""
    assert set(killed.weights) == {"spinal.pt"}
    for name, content in killed.weights.items():
        assert (killed.work / "weights" / name).read_bytes() == content
    for detector in read_bundle(killed.work / "bundle").detectors:
        weights = killed.work / "weights" / f"{detector.group.name}.pt"
        assert detector.models[0].weights_sha256 == sha256_of(weights)


def untimed(manifest: bytes) -> bytes:
    """A bundle's manifest without how long a slice took."""
    text, count = re.subn(rb'"ms_per_slice": [0-9.e-]+', b"", manifest)
    assert count == 3
    return text
