"""Real processes that are killed, stopped, or have no room: nothing is lost, nothing is mixed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from commands import SMALL_CHUNKS, run_here
from ending import DEADLINE_S, is_gone, kill_tree, wait_for
from toys import write_clinical_study

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals of Linux")
OUTPUTS = ("out.csv", "out.jsonl")
FINISHED = ["out.csv", "out.jsonl", "out.run.json"]
STUDIES = 6
PAUSED = str(Path(__file__).parents[1] / "support" / "paused_run.py")
# With 0 decoding processes a limit is on outputs alone.
START = """
from rsna_lumbar.runtime.cli import main
from rsna_lumbar.runtime.run.request import Sizes
main(given=Sizes(studies_a_chunk=2, small_job={processes}))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("interruptions") / "root"
    for number in range(STUDIES):
        write_clinical_study(root / "test_images", str(100 + number), seed=number, counts=(2, 1, 2))
    (root / "test_images" / "101" / "11" / "9.dcm").write_bytes(b"\0" * 128 + b"DICM")
    return root


def words_of(root: Path, bundle: Path, folder: Path, *words: str) -> list[str]:
    out, evidence = (str(folder / name) for name in OUTPUTS)
    files = [str(root), "--bundle", str(bundle), "--output", out, "--evidence", evidence]
    return [*files, "--threads", "1", *words]


def command(
    root: Path, bundle: Path, folder: Path, *words: str, setup: str = "", processes: int = 1
) -> list[str]:
    program = setup + START.format(processes=processes)
    return [sys.executable, "-c", program, *words_of(root, bundle, folder, *words)]


def pausing(left: int, sign: object, words: list[str]) -> list[str]:
    """A run that pauses when so many studies are left to write; see ``paused_run.py``."""
    return [sys.executable, PAUSED, str(left), str(sign), *words]


def contents(folder: Path) -> dict[str, bytes]:
    manifest = json.loads((folder / "out.run.json").read_text())
    of_run = {name: manifest[name] for name in ("counts", "skipped", "series", "filled_from_prior")}
    found = {name: (folder / name).read_bytes() for name in OUTPUTS}
    return {**found, "manifest": json.dumps(of_run).encode()}


@pytest.fixture(scope="module")
def expected(
    root: Path, toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    assert subprocess.run(command(root, toy_bundle, folder)).returncode == 3
    return contents(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "out.csv").write_text("old")
    return folder


def resumes(
    root: Path, bundle: Path, folder: Path, expected: Mapping[str, bytes], *words: str
) -> None:
    """In this process, which has all that another would first import."""
    again = words_of(root, bundle, folder, "--resume", *words)
    assert run_here(*again, sizes=SMALL_CHUNKS) == 3
    assert contents(folder) == expected
    assert sorted(path.name for path in folder.iterdir()) == FINISHED


def test_killed_with_its_decoding_processes(
    root: Path, toy_bundle: Path, tmp_path: Path, expected: Mapping[str, bytes]
) -> None:
    """Before each study; another number of processes goes on, those of the killed run are gone."""
    for point in range(STUDIES):
        folder = tmp_path / str(point)
        folder.mkdir()
        (folder / "out.csv").write_text("old")
        sign = tmp_path / f"{point}-waits"
        words = words_of(root, toy_bundle, folder, "--quiet", "--workers", "2")
        process = subprocess.Popen(pausing(STUDIES - point, sign, words))
        wait_for(sign.exists)
        children = kill_tree(process)
        wait_for(lambda children=children: all(map(is_gone, children)))
        resumes(root, toy_bundle, folder, expected, "--workers", str(1 + point % 3))


def test_two_runs_at_once(
    root: Path, toy_bundle: Path, folder: Path, expected: Mapping[str, bytes]
) -> None:
    words = words_of(root, toy_bundle, folder, "--quiet")
    first = subprocess.Popen(pausing(STUDIES, "stop", words))
    wait_for(lambda: psutil.Process(first.pid).status() == psutil.STATUS_STOPPED)
    assert (folder / ".out.csv.part").exists()
    second = subprocess.run(
        command(root, toy_bundle, folder, "--resume"), capture_output=True, text=True
    )
    assert second.returncode == 1
    assert second.stderr.strip().splitlines() == [
        f"Error: {folder / 'out.csv'}: another process is writing it"
    ]
    assert (folder / "out.csv").read_text() == "old"
    first.send_signal(signal.SIGCONT)
    assert first.wait(DEADLINE_S) == 3
    assert contents(folder) == expected


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_by_its_user(
    root: Path, toy_bundle: Path, folder: Path, expected: Mapping[str, bytes], stop: signal.Signals
) -> None:
    """Between two writes of a run that has begun."""
    sign = folder.parent / "waiting"
    words = words_of(root, toy_bundle, folder)
    process = subprocess.Popen(pausing(STUDIES - 2, sign, words), stderr=subprocess.PIPE, text=True)
    wait_for(sign.exists)
    assert b'"chunk"' in (folder / ".out.csv.journal").read_bytes()
    process.send_signal(stop)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + stop
    assert "Traceback" not in said
    assert "studies are done and kept for --resume" in said
    assert (folder / "out.csv").read_text() == "old"
    resumes(root, toy_bundle, folder, expected)


@pytest.mark.parametrize("limit", [0, 100, 600, 3000, 6000, 9000, 20000])
def test_files_that_may_not_grow(
    root: Path, toy_bundle: Path, folder: Path, expected: Mapping[str, bytes], limit: int
) -> None:
    """The kernel refuses the write, wherever it comes."""
    setup = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    done = subprocess.run(
        command(root, toy_bundle, folder, setup=setup, processes=0),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"Error: {folder}") and last.endswith("File too large")
    assert (folder / "out.csv").read_text() == "old"
    resumes(root, toy_bundle, folder, expected)


TINY = """
set -e
mount -t tmpfs -o size={size}k tiny {folder}
printf old > {folder}/out.csv
code=0; "$@" 2> {said} || code=$?
echo $code $(cat {folder}/out.csv | head -c 3) $(ls -A {folder})
mount -o remount,size=16m {folder}
code=0; "$@" --resume 2>> {said} || code=$?
echo $code $(ls -A {folder})
cp {folder}/out* {saved}
"""


def mounted(script: str, folder: Path, words: list[str]) -> list[str]:
    """What a script prints that may mount file systems; its words are $@."""
    folder.mkdir()
    apart = [shutil.which("unshare") or "false", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=64k tiny {folder}"
    if subprocess.run([*apart, "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here; a full one was not tried")
    done = subprocess.run([*apart, "sh", "-c", script, "sh", *words], capture_output=True)
    return done.stdout.decode().splitlines()


READ_ONLY = """
mount -t tmpfs tiny {folder}
printf old > {folder}/out.csv
mount -o remount,ro {folder}
"$@" 2>&1
echo $? $(cat {folder}/out.csv) $(ls -A {folder})
"""


def test_a_read_only_file_system(root: Path, toy_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    script = READ_ONLY.format(folder=folder)
    said, end = mounted(script, folder, command(root, toy_bundle, folder))
    assert said == f"Error: {folder / 'out.csv'}: Read-only file system"
    assert end == "1 old out.csv"


@pytest.mark.parametrize("size", [8, 24, 40, 56, 72, 88])
def test_a_full_file_system(
    root: Path, toy_bundle: Path, tmp_path: Path, expected: Mapping[str, bytes], size: int
) -> None:
    """Full at one point or another; with more room the run goes on."""
    folder, saved, said = tmp_path / "tiny", tmp_path / "saved", tmp_path / "said"
    saved.mkdir()
    script = TINY.format(size=size, folder=folder, saved=saved, said=said)
    words = command(root, toy_bundle, folder, processes=0)
    first, then = mounted(script, folder, words)
    assert first.startswith("1 old "), said.read_text()
    assert "No space left on device" in said.read_text()
    assert "Traceback" not in said.read_text()
    assert then.split() == ["3", *FINISHED]
    assert contents(saved) == expected
