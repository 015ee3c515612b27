"""Full places for shared memory and temporary files: the run needs none of them, or says so."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from multiprocessing.heap import Arena
from pathlib import Path

import click
import pytest

from rsna_lumbar.runtime.system import shared_memory
from rsna_lumbar.runtime.system.entry_point import entry_point
from rsna_lumbar.runtime.system.shared_memory import SHARED

RUN = ("-c", "from rsna_lumbar.runtime.cli import main; main()")
WITHOUT_MEMORY = (str(Path(__file__).parents[1] / "support" / "run_without_memfd.py"),)
TRAIN = ("-c", "from rsna_lumbar.train.cli import main; main()")
Program = tuple[str, ...]  # what Python is given before the words of a command
# One page is left in TMPDIR where it is full, so that Python does not choose another folder, and
# none in /dev/shm. A ring of squares of 64 x 64 takes 32 pages, a semaphore one.
MOUNTED = """
set -e
mount -t tmpfs -o size={shared_k}k small /dev/shm
mount -t tmpfs -o size={temporary_k}k small {temporary}
test {shared_k} -gt 4 || head -c 4096 /dev/zero > /dev/shm/full
exec "$@"
"""
FULL_KIB, FREE_KIB = 4, 2**20


def python(
    program: Program, words: list[str], temporary: Path, *, shared_k: int, temporary_k: int
) -> subprocess.CompletedProcess[str]:
    """Run a program where two places have so much room; nothing is left in TMPDIR."""
    temporary.mkdir()
    apart = [shutil.which("unshare") or "false", "--map-root-user", "--mount", "sh", "-c"]
    script = MOUNTED.format(shared_k=shared_k, temporary_k=temporary_k, temporary=temporary)
    if subprocess.run([*apart, script, "sh", "true"], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here; full ones were not tried")
    return subprocess.run(
        [*apart, script, "sh", sys.executable, *program, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )


def run(
    root: Path, bundle: Path, folder: Path, program: Program, *, shared_k: int, temporary_k: int
) -> subprocess.CompletedProcess[str]:
    """rsna-run with one decoding process, over an old output."""
    (folder / "out.csv").write_text("old")
    words = [str(root), "--bundle", str(bundle), "--output", str(folder / "out.csv"), "--quiet"]
    return python(program, words, folder / "temporary", shared_k=shared_k, temporary_k=temporary_k)


@pytest.fixture(scope="module")
def expected(toy_root: Path, toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("expected")
    done = run(toy_root, toy_bundle, folder, RUN, shared_k=FREE_KIB, temporary_k=FREE_KIB)
    assert (done.returncode, done.stderr) == (0, "")
    return (folder / "out.csv").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="places of Linux; none was filled")
@pytest.mark.parametrize(
    ("program", "shared_k", "temporary_k"),
    [
        (RUN, FULL_KIB, FULL_KIB),
        (RUN, FULL_KIB, FREE_KIB),
        (RUN, FREE_KIB, FULL_KIB),
        (WITHOUT_MEMORY, FULL_KIB, FREE_KIB),
        (WITHOUT_MEMORY, FREE_KIB, FULL_KIB),
    ],
    ids=["both", "shared", "temporary", "shared, files only", "temporary, files only"],
)
def test_a_run_goes_on(
    toy_root: Path,
    toy_bundle: Path,
    tmp_path: Path,
    expected: str,
    program: Program,
    shared_k: int,
    temporary_k: int,
) -> None:
    done = run(toy_root, toy_bundle, tmp_path, program, shared_k=shared_k, temporary_k=temporary_k)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.csv").read_text() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="places of Linux; none was filled")
def test_no_place_at_all_is_one_line(toy_root: Path, toy_bundle: Path, tmp_path: Path) -> None:
    done = run(
        toy_root,
        toy_bundle,
        tmp_path,
        WITHOUT_MEMORY,
        shared_k=FULL_KIB,
        temporary_k=FULL_KIB,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == (
        "Error: no room for the 0.1 MiB that a decoding process shares (/dev/shm: No space left "
        "on device; TMPDIR: No space left on device): make room, set TMPDIR to a folder that has "
        "some, or ask for fewer --workers\n"
    )
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.csv", "temporary"]


@pytest.fixture(params=["memory", "/dev/shm", "TMPDIR", "written"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Arena:
    """5,000,000 bytes from every place that there can be; those that come before it are gone."""
    place = {"written": "TMPDIR"}.get(request.param, request.param)
    begins = {"memory": "/memfd:", "/dev/shm": "/dev/shm/", "TMPDIR": f"{tempfile.gettempdir()}/"}
    if not {"memory": hasattr(os, "memfd_create"), "/dev/shm": SHARED.is_dir()}.get(place, True):
        pytest.skip(f"there is no {place} here")
    if place != "memory":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    if place == "TMPDIR":
        monkeypatch.setattr(shared_memory, "SHARED", Path("nowhere"))
    if request.param == "written":
        monkeypatch.delattr(os, "posix_fallocate")
    arena = shared_memory.shared_memory(5_000_000)
    if sys.platform == "linux":
        assert os.readlink(f"/proc/self/fd/{arena.fd}").startswith(begins[place])
    return arena


@pytest.mark.skipif(os.name != "posix", reason="files of POSIX; no space was reserved")
def test_all_of_it_is_there_before_it_is_written(memory: Arena) -> None:
    """Of a sparse file no block would be."""
    found = os.fstat(memory.fd)
    assert found.st_size == 5_000_000 <= found.st_blocks * 512
    assert found.st_nlink == 0
    assert memory.buffer[:].count(0) == 5_000_000
    memory.buffer[-1] = 7


@pytest.mark.skipif(os.name != "posix", reason="files of POSIX; none was closed")
def test_it_goes_with_the_last_that_has_it() -> None:
    memory = shared_memory.shared_memory(5_000)
    file = memory.fd
    os.fstat(file)
    del memory
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


@pytest.mark.skipif(sys.platform != "linux", reason="places of Linux; none was filled")
def test_no_room_for_locks_is_one_line(tmp_path: Path) -> None:
    """Worker processes of training have locks of the standard library."""
    words = ["phantom", str(tmp_path / "out"), "--studies", "2", "--workers", "2"]
    places = {"shared_k": FULL_KIB, "temporary_k": FREE_KIB}
    done = python(TRAIN, words, tmp_path / "temporary", **places)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("Error: /dev/shm is full: ")
    assert python(TRAIN, [*words, "--workers", "1"], tmp_path / "again", **places).returncode == 0


@pytest.mark.parametrize("folder", ["somewhere", None])
def test_a_full_disk_without_a_name_is_one_line(
    folder: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Libraries write files of their own, and their errors name none."""

    @click.command()
    def command() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def found() -> str:
        if folder is None:
            raise FileNotFoundError("no folder is usable")
        return folder

    monkeypatch.setattr(tempfile, "gettempdir", found)
    with pytest.raises(SystemExit) as caught:
        entry_point(command, "name")([])
    assert caught.value.code == 1
    said = "somewhere (another with TMPDIR)" if folder else "a folder for temporary files (TMPDIR)"
    assert capsys.readouterr().err == (
        f"Error: No space left on device: make room where results are written, or in {said}\n"
    )
