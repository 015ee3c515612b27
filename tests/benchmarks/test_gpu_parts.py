"""gpu_check's parts on this machine: what needs no GPU is done, the rest is named."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from rsna_lumbar.benchmarks.gpu import demo, facts, timing
from rsna_lumbar.benchmarks.gpu.jobs import Settings
from rsna_lumbar.benchmarks.gpu.plan import FACTS, FLIGHT, GPU, SUBMISSION, TIMING, VERIFIED
from rsna_lumbar.benchmarks.gpu.rows import OK, Notes, Row, read_notes
from rsna_lumbar.export.verification.limits import LIMITS
from rsna_lumbar.runtime.backends import BACKENDS
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.system.machine import this_machine

GPU_CHECK = Path(__file__).parents[2] / "benchmarks" / "gpu_check"
needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="needs tensorrt-rtx; its builds were not tried"
)
needs_no_gpu = pytest.mark.skipif(
    bool(this_machine().gpus), reason="says what happens without a GPU; there is one"
)
Part = Callable[..., None]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Settings(tmp_path, quick=True)


def run(part: Part, settings: Settings, *arguments: str) -> list[Row]:
    path = settings.work / "notes.jsonl"
    part(Notes(path), settings, *arguments)
    return read_notes(path)[0]


def by_part(rows: list[Row]) -> dict[str, Row]:
    assert len({row.part for row in rows}) == len(rows)
    return {row.part: row for row in rows}


def test_the_facts_name_every_backend_and_what_is_missing(settings: Settings) -> None:
    rows = {row.name: row for row in run(facts.list_facts, settings)}
    for backend in BACKENDS:
        row = rows[f"backend {backend}"]
        assert row.status.startswith("cannot run: ") or "can run on" in str(row.figures["what"])
    assert rows["backend onnxruntime"].status == OK
    assert rows["numpy"].figures["what"]
    assert (rows[GPU].status == OK) == bool(this_machine().gpus)


def test_a_pair_is_built_verified_scored_with_and_timed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here on two demo studies, since none were drawn; also where it is over the limits."""
    with monkeypatch.context() as patch:
        patch.setitem(demo.LIMITS, "fp16", LIMITS["fp32"])
        rows = by_part(run(demo.check_pair, settings, "onnx", "fp16"))
    assert set(rows) == {VERIFIED, SUBMISSION, FLIGHT}
    assert rows[VERIFIED].status.startswith("over the limits: peaks by")
    assert {rows[part].status for part in (SUBMISSION, FLIGHT)} == {OK}
    models = read_bundle(settings.work / "bundle-onnx-fp16").models
    parities = [one.parity for _, one in models if one.precision == "fp16" and one.parity]
    assert len(parities) == 3 and demo.verdict(parities, LIMITS["fp16"]) == OK
    assert {row.name for row in rows.values()} == {"onnx fp16"}
    for row in (rows[VERIFIED], rows[SUBMISSION]):
        difference = row.figures["max diff"]
        assert isinstance(difference, float)
        assert LIMITS["fp32"].peak < difference < LIMITS["fp16"].probability
    assert rows[SUBMISSION].figures["rows"] == 50
    assert rows[VERIFIED].figures["changed"] in ("0 of 50", "1 of 50")


@needs_no_gpu
@needs_rtx
def test_an_engine_without_a_gpu_is_built_and_says_why_it_did_not_run(settings: Settings) -> None:
    (row,) = run(demo.check_pair, settings, "tensorrt-rtx", "fp32")
    assert row.part == VERIFIED
    assert row.status == "built, unverified: no NVIDIA GPU found"


def test_engines_are_timed_against_pytorch(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, with a network of its real shape and small slices, few of them."""
    monkeypatch.setattr(timing, "SLICES_A_TIMING", 6)
    words = ("cpu", "n", "64", "onnx", "fp32,bf16", "2", "3")
    refused, *rows = run(timing.time_engines, settings, *words)
    assert refused.name.endswith("onnx bf16") and refused.status.startswith("not done: onnx has no")
    assert [row.figures["batch"] for row in rows] == [2, 3]
    for row in rows:
        assert (row.part, row.status) == (TIMING, OK)
        difference = row.figures["max diff"]
        assert isinstance(difference, float) and 0 < difference < LIMITS["fp32"].probability
        assert {"ms/slice", timing.FP32, timing.FP16, "to fp32", "in flight"} <= set(row.figures)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash; the command was not run")
def test_the_command_writes_both_files(settings: Settings) -> None:
    out = settings.work / "out"
    done = subprocess.run(
        [GPU_CHECK, out, "--quick", "--only", "onnx fp32"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    table = (out / "gpu_check.txt").read_text()
    assert done.stdout == table
    for part in (FACTS, VERIFIED, SUBMISSION, FLIGHT):
        assert part in table
    fields = json.loads((out / "gpu_check.json").read_text())
    assert fields["conditions"]["date"] in table
    assert any(row["name"] == "onnx fp32" for block in fields["blocks"] for row in block["rows"])
    for text in (table, json.dumps(fields)):
        assert str(Path.home()) not in text and str(settings.work) not in text
        assert len(platform.node()) < 4 or platform.node() not in text
