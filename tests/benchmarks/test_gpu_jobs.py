"""gpu_check's machinery: what crashes, hangs or fails is a row, and nothing private is in it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from ending import DEADLINE_S, is_gone, wait_for

from rsna_lumbar.benchmarks.gpu import jobs
from rsna_lumbar.benchmarks.gpu.cli import Check
from rsna_lumbar.benchmarks.gpu.jobs import Job, Settings, run_job
from rsna_lumbar.benchmarks.gpu.plan import (
    FACTS,
    FLIGHT,
    GPU,
    NO_GPU_HERE,
    PRECISIONS,
    SUBMISSION,
    TIMING,
    VERIFIED,
    gpu_jobs,
    missing_rows,
)
from rsna_lumbar.benchmarks.gpu.rows import OK, Row, clean
from rsna_lumbar.benchmarks.harness.report import as_json, as_table
from rsna_lumbar.export.formats import FORMATS, load_format

PARTS = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
from rsna_lumbar.benchmarks.gpu.rows import Row
from rsna_lumbar.runtime.core.errors import UsageError

def done(notes, settings, word):
    notes.add(Row("p", word, "ok", {"quick": settings.quick}))

def aborts(notes, settings):
    notes.begin("first"); notes.add(Row("p", "before", "ok"))
    notes.begin("aborting"); print("its last words", file=sys.stderr); os.abort()

def segfaults(notes, settings):
    notes.begin("reading nothing"); ctypes.string_at(0)

def hangs(notes, settings):
    notes.begin("sleeping")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    Path(settings.work, "part").write_text(str(child.pid))
    Path(settings.work, "part").rename(Path(settings.work, "pid"))
    time.sleep(1000)

def ends(notes, settings):
    os._exit(3)

def refuses(notes, settings):
    raise UsageError("there is none")

def fails(notes, settings):
    raise RuntimeError("a bug")
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "trial_parts.py").write_text(PARTS)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return Settings(tmp_path, quick=True)


def run(name: str, settings: Settings, *arguments: str, limit_s: float = DEADLINE_S) -> list[Row]:
    job = Job("p", name, f"trial_parts:{name}", arguments, limit_s)
    return run_job(job, settings, left_s=600)


def test_rows_are_handed_over(settings: Settings) -> None:
    assert run("done", settings, "word") == [Row("p", "word", OK, {"quick": True})]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("aborts", "crashed: signal 6 (SIGABRT) while aborting; its last output: its last words"),
        ("segfaults", "crashed: signal 11 (SIGSEGV) while reading nothing"),
        ("ends", "failed: exit code 3 while starting"),
        ("refuses", "not done: there is none"),
        ("fails", "failed: RuntimeError: a bug"),
        ("missing", "failed: AttributeError: module 'trial_parts' has no attribute 'missing'"),
    ],
)
def test_what_does_not_come_to_its_end_is_a_row(name: str, status: str, settings: Settings) -> None:
    *before, last = run(name, settings)
    assert last == Row("p", name, status)
    assert [row.name for row in before] == (["before"] if name == "aborts" else [])


def test_what_hangs_is_stopped_with_all_that_it_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time begins to run where it hangs: a busy machine may take long to come there."""
    sign, really = settings.work / "pid", subprocess.Popen.wait

    def wait(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        wait_for(sign.exists)
        return really(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    (row,) = run("hangs", settings, limit_s=1)
    assert row == Row("p", "hangs", "hung: stopped after 1 s while sleeping")
    started = int(sign.read_text())
    wait_for(lambda: is_gone(started))


def test_a_job_ends_with_the_command_that_started_it(settings: Settings) -> None:
    words = [jobs.CHILD, "trial_parts:hangs", str(settings.work / "notes"), str(settings.work)]
    child = subprocess.Popen(
        [sys.executable, "-m", *words, "quick", "p", "hangs"], stdin=subprocess.PIPE
    )
    assert child.stdin
    wait_for((settings.work / "pid").exists)
    child.stdin.close()
    assert child.wait(DEADLINE_S) == 1


def test_without_time_nothing_is_started(settings: Settings) -> None:
    job = Job("p", "aborts", "trial_parts:aborts")
    assert run_job(job, settings, left_s=1) == [Row("p", "aborts", "not run: no time left")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("1.0/s of 12/25 rows, n/a", "1.0/s of 12/25 rows, n/a"),
        ("cannot read /home/alice/site-packages/x.so: no", "cannot read x.so: no"),
        ("'/tmp/a/b/model.onnx' is\nbad", "'model.onnx' is bad"),
        ("see https://a.org/b/c", "see https://a.org/b/c"),
        (f"on {platform.node()}!", "on this machine!" if len(platform.node()) > 3 else None),
        ("x" * 1000, "x" * 400 + "..."),
    ],
)
def test_texts_name_no_folder_and_no_machine(text: str, expected: str | None) -> None:
    assert expected is None or clean(text) == expected


def test_a_report_worked_by_hand(tmp_path: Path) -> None:
    check = Check(tmp_path, Settings(tmp_path, quick=True), "benchmarks/gpu_check OUT", 1.0, "")
    check.add([Row(FLIGHT, "x", OK, {"ms": 1.23456, "device": "cpu"})])
    check.add(
        [
            Row(FLIGHT, "long y", "crashed: signal 6", {"ms": None}),
            Row("b", "z", OK, {"what": "there"}),
            Row("b", "w", "missing", {}),
            Row("c", "q", OK, {"max diff": float("nan")}),
        ]
    )
    results = check.results()
    table = (tmp_path / "gpu_check.txt").read_text()
    assert table == as_table(results) + "\n"
    assert table.split("\n")[:14] == [
        "$ benchmarks/gpu_check OUT",
        "",
        FLIGHT,
        "        ms    device  status",
        "x       1.23  cpu     ok",
        "long y  -     -       crashed: signal 6",
        "",
        "b",
        "   what   status",
        "z  there  ok",
        "w  -      missing",
        "",
        "c",
        "   max diff  status",
    ]
    assert f"{FLIGHT}: 8 batches" in table and table.endswith(f"date: {check.date}\n")
    assert (tmp_path / "gpu_check.json").read_text() == as_json(results)
    content = json.loads(as_json(results), parse_constant=pytest.fail)
    assert content["blocks"][0]["rows"][1] == {
        "name": "long y",
        "ms": None,
        "status": "crashed: signal 6",
    }
    assert content["blocks"][2]["rows"][0]["max diff"] == "nan"


def test_the_plan_knows_every_format_and_precision() -> None:
    assert {name: load_format(name).PRECISIONS for name in FORMATS} == PRECISIONS


FOUND = Row(FACTS, GPU, OK, {"device": "cuda:0"})


def scored(pair: str, device: str) -> tuple[Row, Row]:
    return Row(VERIFIED, pair, OK), Row(SUBMISSION, pair, OK, {"device": device})


def timed(rows: list[Row], *, quick: bool) -> list[tuple[str, ...]]:
    return [job.arguments for job in gpu_jobs(Settings(Path(), quick), rows)]


def test_without_a_gpu_nothing_is_timed_at_real_size() -> None:
    row = Row(FACTS, GPU, "no NVIDIA GPU found")
    assert list(missing_rows([row])) == [Row(TIMING, "all", NO_GPU_HERE)]


def test_what_failed_in_the_demo_is_not_timed_and_named() -> None:
    rows = [FOUND]
    for pair in ("onnx fp32", "tensorrt fp32", "tensorrt fp16"):
        rows += scored(pair, "cuda:0")
    rows += scored("onnx fp16", "cpu")
    rows += [Row(VERIFIED, f"tensorrt-rtx {one}", "crashed") for one in ("fp32", "fp16", "int8")]
    assert timed(rows, quick=True) == [
        ("cuda:0", "n", "384", "onnx", "fp32,int8", "16"),
        ("cuda:0", "n", "384", "tensorrt", "fp32,fp16,int8", "16"),
    ]
    assert [row.name for row in missing_rows(rows)] == [
        "onnx fp16",
        "tensorrt-rtx fp32, fp16, int8",
    ]


def test_all_scales_sizes_and_batches_are_timed() -> None:
    full = timed([FOUND], quick=False)
    assert {words[1:3] for words in full} == {(a, b) for a in "ns" for b in ("384", "640")}
    assert {words[5:] for words in full} == {("1", "16", "64")}
    assert {words[3] for words in full} == {"onnx", "tensorrt", "tensorrt-rtx"}
