"""A builder that crashes, hangs, is killed or interrupted: real processes, and what is left."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from ending import DEADLINE_S, is_gone, wait_for
from ending_work import echo, end_at_work, grumble, refuse, speak_strangely, stumble
from toys import write_clinical_study, write_toy_bundle

from rsna_lumbar.export.formats import builder_process
from rsna_lumbar.export.formats.builder_process import Voice, Work, build_apart
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.core.errors import ExportError, UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, SPINAL, Group
from rsna_lumbar.runtime.system.ultralytics_env import FOLDERS_UNLESS_SET

if os.name != "posix":
    pytest.skip("signals are tested where there are any", allow_module_level=True)

SUPPORT = Path(__file__).parents[1] / "support"
GRAPH = bytes(range(256)) * 40_000  # more than a pipe holds
SHORT_S = 2.0  # of silence, once a builder is at work; a busy machine may start it slowly


def build(work: Work, lines: list[str] | None = None, log: Path | None = None) -> bytes:
    said = [] if lines is None else lines
    built = build_apart(work, GRAPH, name="toy fp32", log=log, report=said.append)
    return built.files[0].content


# One build


def test_the_graph_goes_there_and_the_result_comes_back(tmp_path: Path) -> None:
    lines: list[str] = []
    assert build(echo, lines, tmp_path / "log") == GRAPH[::-1]
    assert lines == ["toy fp32: begun", "toy fp32: done"]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("segfault", "was ended by SIGSEGV in 'at work'"),
        ("abort", "was ended by SIGABRT in 'at work'"),
        ("kill", "was killed (SIGKILL) in 'at work'; the system does so if memory is short"),
        ("exit", "ended with exit code 7 and no result in 'at work'"),
    ],
)
def test_the_end_of_a_builder_is_one_error(way: str, words: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ExportError) as caught:
        build(partial(end_at_work, way), log=log)
    assert str(caught.value) == f"toy fp32: the builder {words}"
    assert "last words" in log.read_text()
    assert not multiprocessing.active_children()


def test_a_builder_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def hurry(line: str) -> None:
        monkeypatch.setattr(builder_process, "SILENCE_S", SHORT_S)

    hanging = partial(end_at_work, "hang")
    with pytest.raises(ExportError, match=r"hangs, no sign of life for 2 s in 'at work'$"):
        build_apart(hanging, GRAPH, name="toy fp32", log=None, report=hurry)
    assert not multiprocessing.active_children()


def test_a_message_that_cannot_be_read_ends_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the package is updated while it builds: the process imports the new one."""
    monkeypatch.setattr(builder_process, "END_S", SHORT_S)
    with pytest.raises(ExportError, match=r"the builder broke off in 'at work'$"):
        build(speak_strangely)
    assert not multiprocessing.active_children()


def test_an_error_of_ours_comes_as_it_is() -> None:
    with pytest.raises(UsageError, match=r"^no such target$"):
        build(refuse)


def test_any_other_error_is_named_and_its_trace_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ExportError, match=r"^unexpected ZeroDivisionError: division by zero$"):
        build(stumble, log=log)
    assert "Traceback" in log.read_text()


def test_nothing_of_it_reaches_the_streams(capfd: pytest.CaptureFixture[str]) -> None:
    build(grumble)
    assert capfd.readouterr() == ("", "")


def test_a_log_that_cannot_be_written_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"log cannot be written \("):
        build(echo, log=tmp_path / "missing" / "log")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_building_arrives(number: int) -> None:
    """In this process, as from Ctrl-C or kill; the builder wants none."""

    def terminate(*_: object) -> None:
        raise SystemExit(143)

    def send(line: str) -> None:
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            build_apart(partial(end_at_work, "hang"), GRAPH, name="toy fp32", log=None, report=send)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not multiprocessing.active_children()


def test_no_process_to_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", start)
    with pytest.raises(ExportError, match="no builder can be started"):
        build(echo)


def test_signs_of_life_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    sent: list[object] = []
    voice = Voice(sent.append)
    for now[0] in (100.5, 101.0, 101.5, 101.9, 102.1):
        voice.live()
    assert len(sent) == 2


# The command


class Export:
    """``rsna-export BUNDLE --format tensorrt-rtx`` of a toy bundle, with a builder that ends."""

    def __init__(self, folder: Path, groups: Sequence[Group] = (SPINAL,)) -> None:
        self.bundle = folder / "bundle"
        self.studies = folder / "studies"
        self.sign = folder / "sign"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        write_toy_bundle(self.bundle, groups=groups)
        write_clinical_study(self.studies, "100", counts=(1, 1, 1))
        self.before = self.state()

    def state(self) -> dict[str, str]:
        """Every file of the bundle."""
        return {
            str(path.relative_to(self.bundle)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.bundle.rglob("*")
            if path.is_file()
        }

    def start(self, way: str, *words: str, spares: int = 0) -> subprocess.Popen[str]:
        """With ``spares``, the first so many builds go well."""
        paths = [str(SUPPORT / "ending_builder"), str(SUPPORT), *filter(None, sys.path)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "TMPDIR": str(self.temporary),
            # What is killed cannot remove the folder of these; held by tests of its own.
            **dict.fromkeys(FOLDERS_UNLESS_SET, str(self.sign.parent)),
            "ORT_DISABLE_TELEMETRY": "1",  # it leaves a file; held by tests of its own
            "BUILDER_ENDS": way,
            "BUILDER_SPARES": str(spares),
            "BUILDER_SIGN": str(self.sign),
        }
        options = ["--format=tensorrt-rtx", f"--verify-data={self.studies}", *words]
        return subprocess.Popen(
            [sys.executable, SUPPORT / "hasty_export.py", self.bundle, *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, way: str, *words: str, spares: int = 0) -> tuple[int, str]:
        """(exit code, what it said)."""
        return finish(self.start(way, *words, spares=spares))

    def builder(self) -> int:
        """The builder's process, once it is in the middle of its work."""
        wait_for(self.sign.exists)
        return int(self.sign.read_text())

    def nothing_left(self) -> bool:
        return is_gone(self.builder()) and not list(self.temporary.iterdir())


def finish(export: subprocess.Popen[str]) -> tuple[int, str]:
    with export:
        _, said = export.communicate(timeout=DEADLINE_S)
    return export.returncode, said


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


ENDS = {
    "segfault": "the builder was ended by SIGSEGV in 'Timing'",
    "abort": "the builder was ended by SIGABRT in 'Timing'",
    "exit": "the builder ended with exit code 7 and no result in 'Timing'",
    "hang": "the builder hangs, no sign of life for 2 s in 'Timing'",
}


def reasons(said: str) -> list[str]:
    """The distinct lines about an excluded engine; nothing else went wrong."""
    assert "Traceback" not in said and "Error" not in said and "last words" not in said
    return list(dict.fromkeys(line for line in said.splitlines() if "is excluded" in line))


@pytest.mark.parametrize(
    "way",
    ["hang", *(pytest.param(way, marks=pytest.mark.slow) for way in ("segfault", "abort", "exit"))],
)
def test_the_end_of_a_builder_costs_one_line_and_leaves_the_bundle(
    export: Export, way: str
) -> None:
    code, said = export.run(way)
    (line,) = reasons(said)
    assert code == 3
    assert line.startswith("tensorrt-rtx fp32 sm89.sm120 is excluded: spinal: ")
    assert ENDS[way] in line
    assert line.endswith("to try again, add --format tensorrt-rtx --precision fp32")
    assert export.state() == export.before and export.nothing_left()


def test_a_builder_killed_from_outside(export: Export) -> None:
    """As by the system, where memory is short."""
    running = export.start("stay")
    os.kill(export.builder(), signal.SIGKILL)
    code, said = finish(running)
    (line,) = reasons(said)
    assert code == 3 and "the builder was killed (SIGKILL) in 'Timing'" in line
    assert export.state() == export.before and export.nothing_left()


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_export_and_builder(export: Export, number: int, expected: int) -> None:
    running = export.start("stay")
    export.builder()
    running.send_signal(number)
    code, said = finish(running)
    assert code == expected and "Traceback" not in said and "excluded" not in said
    assert export.state() == export.before and export.nothing_left()


def test_a_builder_ends_with_the_export(export: Export) -> None:
    """Which is killed, and so cannot end it; the next export clears what it left."""
    running = export.start("stay")
    builder = export.builder()
    running.kill()
    finish(running)
    wait_for(lambda: is_gone(builder))
    left = export.state()
    assert {name: left[name] for name in export.before} == export.before
    export.sign.unlink()
    assert export.run("segfault")[0] == 3
    assert export.state() == export.before and export.nothing_left()


def test_the_engine_of_before_stays_where_a_later_group_crashes(tmp_path: Path) -> None:
    """The first group's new engine is no whole variant."""
    export = Export(tmp_path, GROUPS)
    assert export.run("never")[0] == 0
    before = export.state()
    assert len([name for name in before if name.endswith(".plan")]) == 3
    export.sign.unlink()
    code, said = export.run("abort", spares=1)
    (line,) = reasons(said)
    assert code == 3 and "is excluded: foraminal: " in line
    assert export.state() == before


def test_what_else_was_asked_for_is_made(export: Export) -> None:
    if find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed: nothing else was made")
    code, said = export.run("segfault", "--format=openvino")
    (line,) = reasons(said)
    assert code == 3 and "SIGSEGV" in line
    variants = [str(one) for one in read_bundle(export.bundle).variants]
    assert variants == ["onnxruntime fp32", "openvino fp32"]
    assert (export.bundle / "build.log").read_text().count("last words") == 1
    assert export.nothing_left()
