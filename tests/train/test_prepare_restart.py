"""A preparation that was killed, at whatever moment, and started again ends with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from challenge import contents, write_root
from ending import is_gone, kill_tree, wait_for
from killing import KILLED, end_at_change

from rsna_lumbar.train.dataset.prepare import prepare
from rsna_lumbar.train.dataset.slice_images import PrepareOptions, SliceOutcome
from rsna_lumbar.train.dataset.slice_index import read_outcomes
from rsna_lumbar.train.dataset.split import Folds

OPTIONS = PrepareOptions(size_px=32, folds=Folds(folds=4))
pytestmark = pytest.mark.usefixtures("plain_sheets")
PAUSED = Path(__file__).parents[1] / "support" / "paused_prepare.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("data") / "root")


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    prepare(root, out, OPTIONS)
    return out


@pytest.fixture(scope="module")
def expected(made: Path) -> dict[str, bytes]:
    return contents(made)


def prepare_until(count: int, root: Path, out: Path) -> None:
    """Prepare, and end without cleaning up before the ``count``-th change of a file or folder."""
    import PIL.Image

    changes = (
        (os, "replace"),
        (os, "fsync"),
        (Path, "mkdir"),
        (Path, "rename"),
        (Path, "write_text"),
        (PIL.Image.Image, "save"),
    )
    end_at_change(count, changes)
    prepare(root, out, OPTIONS)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork; the kill sweep did not run")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_before_any_change_of_a_file(
    root: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Every seventh of the changes that one preparation makes; each time started again twice."""
    fork = multiprocessing.get_context("fork")
    killed_at = 0
    for count in range(0, 1000, 7):
        out = tmp_path / str(count) / "out"
        for more in (count, 7):  # the second attempt is killed as well, if it is not done by then
            process = fork.Process(target=prepare_until, args=(more, root, out))
            process.start()
            process.join()
            assert process.exitcode in (0, KILLED)
        prepare(root, out, OPTIONS)
        assert contents(out) == expected
        assert [path.name for path in out.parent.iterdir()] == ["out"]
        killed_at = max(killed_at, count)
        if process.exitcode == 0:
            break
    assert killed_at > 40  # two for each of the 12 slices, and the tables


@pytest.mark.parametrize("slices", [1, 6, 11])
def test_killed_by_the_system(
    root: Path, expected: dict[str, bytes], tmp_path: Path, slices: int
) -> None:
    """With worker processes, which have to end too before the next attempt starts."""
    out, sign = tmp_path / "out", tmp_path / "sign"
    words = (str(root), str(out), str(slices), str(sign))
    process = subprocess.Popen([sys.executable, str(PAUSED), *words])
    wait_for(lambda: sign.exists() or process.poll() is not None)
    workers = kill_tree(process)
    assert sign.exists() and process.returncode == -signal.SIGKILL and workers
    wait_for(lambda: all(map(is_gone, workers)))  # they see that the pipe to their parent is closed
    prepare(root, out, OPTIONS)
    assert contents(out) == expected


def damage_cut(group: Path) -> None:
    index = group / "slices.csv"
    index.write_bytes(index.read_bytes()[:-7])


def damage_bytes(group: Path) -> None:
    index = group / "slices.csv"
    index.write_bytes(index.read_bytes().replace(b",used", b"\xff,used", 2))


def damage_index_lost(group: Path) -> None:
    (group / "slices.csv").unlink()


def damage_image(group: Path) -> None:
    first = next(group.glob("images/*/*.png"))
    first.write_bytes(first.read_bytes()[:-1])


def damage_label(group: Path) -> None:
    next(group.glob("labels/*/*.txt")).write_bytes(b"")


def damage_aside(group: Path) -> None:
    (group / ".card.json.part").write_text("{")


@pytest.mark.parametrize(
    "damage",
    [damage_cut, damage_bytes, damage_index_lost, damage_image, damage_label, damage_aside],
)
def test_what_does_not_hold_is_made_again(
    root: Path,
    made: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    damage: Callable[[Path], None],
) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    shutil.copytree(made, partial)
    damage(partial / "foraminal")
    prepare(root, out, OPTIONS)
    assert contents(out) == expected


def test_no_index_means_nothing_is_done(tmp_path: Path) -> None:
    outcomes: list[SliceOutcome] = read_outcomes(tmp_path / "slices.csv", [])
    assert outcomes == []
    assert (tmp_path / "slices.csv").read_text() == "name,part,image_bytes,standing,points\n"
