"""All commands, one after the other as one would use them: what they write, and whom they call.

Each runs once, in a process with an empty HOME, empty folders of the desktop's standard and an
empty temporary folder. Sockets of the kind AF_UNIX stay inside the machine: processes talk to each
other through them, and the C library asks for users there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest
from watching import Watched, can_watch, watch

SIZE_PX = "64"
NO_LIMITS = [
    f"--limit={one}:{what}=1" for one in ("fp32", "int8") for what in ("probability", "peak")
]
ADDED = [name for name, library in (("openvino", "openvino"), ("tensorrt-rtx", "tensorrt_rtx"))
         if find_spec(library)]  # fmt: skip
MAIN = "from rsna_lumbar.{}.cli import main; main()"
SMALL_BENCH = Path(__file__).parent / "support" / "small_bench.py"
SCORER = """
from pathlib import Path
from rsna_lumbar.runtime import Scorer, stream_studies
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies
if __name__ == "__main__":
    with Scorer(demo_bundle()) as scorer:
        assert list(scorer.score(stream_studies(demo_studies()), workers=1))
"""


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and the files and folders that are its outputs."""

    program: str | Path  # Python, or a file of it
    words: list[str]
    outputs: set[str] = field(default_factory=set)


def train(*words: str, outputs: set[str]) -> Command:
    return Command(MAIN.format("train"), list(words), outputs)


def export(*words: str, outputs: set[str]) -> Command:
    return Command(MAIN.format("export"), list(words), outputs)


def run(*words: str, outputs: set[str]) -> Command:
    return Command(MAIN.format("runtime"), list(words), outputs)


COMMANDS: Mapping[str, Command] = {
    "phantom": train(
        "phantom", "root", "--studies", "4", "--matrix-px", SIZE_PX, "--workers", "2",
        outputs={"root"},
    ),
    "prepare": train(
        "prepare", "root", "data", "--image-size", SIZE_PX, "--folds", "2", outputs={"data"}
    ),
    "fit": train(
        "fit", "data", "fitted", "--model", "demo", "--epochs", "1", "--batch-size", "8",
        "--group", "spinal", "--group", "foraminal", "--device", "cpu", "--jobs", "2",
        outputs={"fitted"},
    ),
    "export": export(
        "bundle", "--spinal=fitted/spinal.pt", "--foraminal=fitted/foraminal.pt", *NO_LIMITS,
        outputs={"bundle"},
    ),
    "calibrate": train("calibrate", "bundle", "root", "--device", "cpu", outputs={"bundle"}),
    "extend": export(
        "bundle", *(f"--format={name}" for name in ("onnx", *ADDED)), "--precision=int8",
        "--calibration-data=root/train_images", *NO_LIMITS, outputs={"bundle"},
    ),
    "verify": export("--verify", "bundle", *NO_LIMITS, outputs={"bundle"}),
    "inspect": export("--inspect", "bundle", outputs=set()),
    "run": run(
        "root/train_images", "--bundle", "bundle", "--output", "out.csv", "--evidence",
        "out.jsonl", "--device", "cpu", outputs={"out.csv", "out.jsonl", "out.run.json"},
    ),
    "demo": run("--demo", outputs={"submission.csv", "submission.run.json"}),
    "evaluate": train(
        "evaluate", "out.csv", "--labels", "root/train.csv", "--figures", "figures",
        outputs={"figures"},
    ),
    "bench": Command(
        SMALL_BENCH,
        ["--weights", "fitted/spinal.pt", "--sizes", SIZE_PX, "--batch-sizes", "1", "--rounds", "1",
         "--series-slices", "2", "--threads", "1", "--contenders",
         "predict,ultralytics-onnx,onnx-fp32", "--plot", "bench.png"],
        {"bench.png"},
    ),
    "Scorer": Command(SCORER, []),
}  # fmt: skip
DONE = (0, 3)

# What stays in the user's folders, by name.
CACHES = {
    r"cache/rsna-lumbar/openvino/[0-9a-f]{64}\.blob": "compiled OpenVINO models (docs/engines.md)",
    r"data/rsna-lumbar/engines": "hashes of engines that were built here (docs/engines.md)",
}
# What is opened for writing elsewhere, and keeps nothing.
ELSEWHERE = {
    r"/dev/null": "what nobody is to read",
    r"/dev/shm/sem\.[\w-]+": "locks of worker processes, removed as soon as they are open",
    r"/proc/(self|\d+)/.*": "of the process itself, such as the names of its threads",
}


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        one.relative_to(folder).as_posix(): (one.stat().st_size, one.stat().st_mtime_ns)
        for one in folder.rglob("*")
        if one.is_file()
    }


class Day:
    """The commands, each run when it is first asked for, after those before it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._work = folder / "work"
        self._work.mkdir()
        self._seen: dict[str, tuple[Watched, set[str]]] = {}

    def __getitem__(self, name: str) -> tuple[Watched, set[str]]:
        """What was seen, and the files that it made or changed in the folder where it ran."""
        for one in COMMANDS:
            if one not in self._seen:
                self._seen[one] = self._run(one)
            if one == name:
                break
        return self._seen[name]

    def _run(self, name: str) -> tuple[Watched, set[str]]:
        command = COMMANDS[name]
        before = snapshot(self._work)
        seen = watch(command.program, command.words, self._work, self._folder / name)
        assert seen.done.returncode in DONE, f"{name}: {seen.done.stderr}"
        return seen, {path for path, _ in snapshot(self._work).items() - before.items()}


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return Day(tmp_path_factory.mktemp("day"))


each_command = pytest.mark.parametrize("name", COMMANDS)
with_strace = pytest.mark.skipif(
    not can_watch(), reason="no strace here, or it may not watch; no system call was looked at"
)


def matches(path: str, patterns: Mapping[str, str]) -> bool:
    return any(re.fullmatch(pattern, path) for pattern in patterns)


@each_command
def test_nothing_stays_but_outputs_and_caches(day: Day, name: str) -> None:
    seen, changed = day[name]
    assert [path for path in seen.left() if not matches(path, CACHES)] == []
    assert seen.left_in("home") == seen.left_in("tmp") == seen.left_in("config") == []
    assert {path.partition("/")[0] for path in changed} <= COMMANDS[name].outputs


@with_strace
@each_command
def test_nothing_is_written_elsewhere(day: Day, name: str) -> None:
    seen, _ = day[name]
    ours = {f"{re.escape(str(seen.private))}/{cache}": why for cache, why in CACHES.items()}
    kept = {
        path
        for path in seen.written()
        if not Path(path).is_relative_to(seen.folder)
        and not Path(path).is_relative_to(seen.private)
        and not matches(path, {**ours, **ELSEWHERE})
    }
    assert kept == set()
    assert not [one for one in seen.written() if Path(one).is_relative_to(seen.private / "home")]


@with_strace
@each_command
def test_no_other_machine_is_called(day: Day, name: str) -> None:
    seen, _ = day[name]
    assert seen.contacts() == []


@with_strace
@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.socket().connect_ex(('127.0.0.1', 9))",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'1', ('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import socket; socket.socket(socket.AF_INET6).bind(('::1', 9998))",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', "
        "'import socket; socket.socket().connect_ex((\"127.0.0.1\", 9))'])",
    ],
    ids=["connect", "datagram", "name", "server", "child"],
)
def test_a_call_would_be_seen(program: str, tmp_path: Path) -> None:
    assert watch(program, [], tmp_path, tmp_path / "private").contacts()


def test_a_file_that_stays_would_be_seen(tmp_path: Path) -> None:
    program = "from pathlib import Path; (Path.home() / 'id').touch()"
    seen = watch(program, [], tmp_path, tmp_path / "private")
    assert seen.left() == ["home/id"]
    if can_watch():
        assert str(tmp_path / "private" / "home" / "id") in seen.written()


@pytest.mark.parametrize("area", ("runtime", "train", "export", "benchmarks"))
def test_the_switch_is_set_before_any_library_is_imported(area: str) -> None:
    """Whatever the user has set: it is off in this process and in those that it starts."""
    program = (
        "import os, sys; os.environ['ORT_DISABLE_TELEMETRY'] = '0'\n"
        f"import rsna_lumbar.{area}\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "assert not sys.modules.keys() & {'onnxruntime', 'numpy', 'torch', 'ultralytics'}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
