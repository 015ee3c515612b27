"""The recipe on a tiny phantom: six commands, killed in the middle of each and started again."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from challenge import contents

from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.train.phantom import PhantomOptions, make_phantom

RECIPE = Path(__file__).parents[2] / "benchmarks" / "recipe"
KILLED_AT_SIGN = Path(__file__).parents[1] / "support" / "killed_at_sign"
SETTINGS = {
    "PREPARE": "--image-size 64 --workers 1",
    "FIT": "--model demo --device cpu --epochs 1 --jobs 1",
    "FIT_SPINAL": "--model demo --device cpu --epochs 2",
    "OMP_NUM_THREADS": "1",
}
# What is there once a command is at work, or nearly done; fit is told apart below.
SIGNS = (
    ("prepare", "prepared.partial/foraminal"),
    ("rsna-export", "bundle/.rsna-export/*.onnx"),
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


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WORK of a recipe that nobody interrupted."""
    work = tmp_path_factory.mktemp("whole") / "work"
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


def test_killed_in_each_command_it_ends_with_the_same_bytes(
    root: Path, whole: Path, tmp_path: Path
) -> None:
    """All but the training, whose weights are taken over: resumed ones are not the same bytes."""
    work = tmp_path / "work"
    run_until(*SIGNS[0], root, work)
    shutil.copytree(whole / "weights", work / "weights")
    for command, sign in SIGNS[1:]:
        run_until(command, sign, root, work)
    run_to_its_end(root, work)
    found, expected = contents(work), contents(whole)
    assert found.pop(TIMED) and expected.pop(TIMED)
    assert sorted(found) == sorted(expected)
    manifest = "bundle/bundle.json"
    assert untimed(found.pop(manifest)) == untimed(expected.pop(manifest))
    assert [name for name in found if found[name] != expected[name]] == []


def test_killed_in_training_it_ends_all_the_same(root: Path, whole: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(whole / "prepared", work / "prepared")
    shutil.copytree(whole / "weights", work / "weights")
    for left in (work / "weights").glob("spinal*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    shutil.copytree(whole / "bundle", work / "bundle")  # of other weights, and older than these
    run_until("fit", "weights/spinal/run/weights/last.pt", root, work)  # the first epoch's
    run_to_its_end(root, work)
    found, expected = contents(work), contents(whole)
    assert sorted(map(without_hash, found)) == sorted(map(without_hash, expected))
    for detector in read_bundle(work / "bundle").detectors:
        weights = work / "weights" / f"{detector.group.name}.pt"
        assert detector.models[0].weights_sha256 == sha256_of(weights)
    for group in ("foraminal", "subarticular"):  # which were finished
        assert found[f"weights/{group}.pt"] == expected[f"weights/{group}.pt"]
    assert found["weights/spinal.pt"] != expected["weights/spinal.pt"]  # resumed: not the bundle's


def untimed(manifest: bytes) -> bytes:
    """A bundle's manifest without how long a slice took."""
    text, count = re.subn(rb'"ms_per_slice": [0-9.e-]+', b"", manifest)
    assert count == 3
    return text


def without_hash(name: str) -> str:
    return re.sub(r"-[0-9a-f]{12}\.", ".", name)
