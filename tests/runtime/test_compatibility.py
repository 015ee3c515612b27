"""Decided before anything is loaded: what runs here, where, and why the rest does not."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from machines import ENGINE, ENGINE_SHA256, H100, L4, engine, machine, portable

from rsna_lumbar.runtime.bundle.records import Model, ModelFile
from rsna_lumbar.runtime.core.errors import BundleError, UsageError
from rsna_lumbar.runtime.inference.compatibility import checked_contents, judge
from rsna_lumbar.runtime.system.machine import Machine


@pytest.mark.parametrize(
    ("model", "here", "device", "devices"),
    [
        (portable(), machine(), "auto", ("cpu",)),
        (portable(), machine(), "cpu", ("cpu",)),
        (portable(), machine(L4), "auto", ("cuda:0", "cpu")),
        (portable(), machine(L4), "cpu", ("cpu",)),
        (portable(), machine(L4, L4), "cuda:1", ("cuda:1",)),
        (portable("openvino"), machine(L4), "auto", ("cpu",)),
        (engine(), machine(L4), "auto", ("cuda:0",)),
        (engine(), machine(H100, L4), "auto", ("cuda:1",)),
        (engine(), machine(H100, L4), "cuda:1", ("cuda:1",)),
    ],
)
def test_where_a_model_runs(
    model: Model, here: Machine, device: str, devices: tuple[str, ...]
) -> None:
    assert judge(model, here, device=device).devices == devices


@pytest.mark.parametrize(
    ("model", "here", "device", "reason"),
    [
        (portable("quantum"), machine(), "auto", "knows no backend 'quantum'"),
        (portable("openvino"), machine(without="openvino"), "auto", "'rsna-lumbar[openvino]'"),
        (portable("openvino"), machine(L4), "cuda:0", "openvino runs on the CPU only"),
        (portable("tensorrt"), machine(L4), "auto", "the manifest says nothing of the engine"),
        (engine(), machine(), "auto", "no NVIDIA GPU found"),
        (engine(), machine(L4), "cpu", "an engine runs on a GPU only"),
        (engine(), machine(L4, without="tensorrt"), "auto", "'rsna-lumbar[tensorrt]'"),
        (engine(), machine(H100), "auto", "for compute capability 8.9; here is 9.0 (NVIDIA H100)"),
        (engine(), machine(L4, H100), "cuda:1", "here is 9.0"),
        (
            engine(built=replace(ENGINE, version="10.9.0.34")),
            machine(L4),
            "auto",
            "built by tensorrt 10.9.0.34, installed is 11.4.0.106; build it here: "
            "rsna-export BUNDLE --format tensorrt --precision fp16",
        ),
        (engine("tensorrt-rtx"), machine(L4), "auto", "installed is 1.7.1.116"),
    ],
)
def test_why_a_model_does_not_run(model: Model, here: Machine, device: str, reason: str) -> None:
    verdict = judge(model, here, device=device)
    assert verdict.devices == () and reason in verdict.reason


@pytest.mark.parametrize(("batch_size", "runs"), [(None, True), (1, True), (64, True), (65, False)])
def test_the_batch_range_of_an_engine(batch_size: int | None, runs: bool) -> None:
    verdict = judge(engine(), machine(L4), batch_size=batch_size)
    assert bool(verdict.devices) is runs
    assert runs or "takes batches of 1 to 64 slices" in verdict.reason


def test_engines_from_elsewhere_need_trust() -> None:
    assert "--trust" in judge(engine(), machine(L4), trusted=frozenset()).reason
    assert judge(engine(), machine(L4), trusted={ENGINE_SHA256}).devices
    assert judge(engine(), machine(L4), trusted=None).devices
    assert judge(portable(), machine(), trusted=frozenset()).devices, "ONNX is no code"


@pytest.mark.parametrize("device", ["tpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "gpu:0", ""])
def test_a_device_that_no_machine_has(device: str) -> None:
    with pytest.raises(UsageError, match="is no GPU; there is cuda:0"):
        judge(portable(), machine(L4), device=device)


def test_a_device_that_this_machine_has_not() -> None:
    with pytest.raises(UsageError, match="cuda:1 is not there: 1 NVIDIA GPUs found"):
        judge(portable(), machine(L4), device="cuda:1")


def plan(version: tuple[int, ...] = (11, 4, 0, 106), magic: int = 0x74727466) -> bytes:
    body = b"engine" * 10
    return struct.pack("<II8xQ4B", magic, 0, 28 + len(body), *version) + body


def written(folder: Path, content: bytes) -> Model:
    (folder / "engine.plan").write_bytes(content)
    file = ModelFile("engine.plan", hashlib.sha256(content).hexdigest())
    return replace(engine(), files=(file,))


def test_contents_that_are_what_the_manifest_says(tmp_path: Path) -> None:
    assert checked_contents(tmp_path, written(tmp_path, plan())) == (plan(),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no engine: it has 0 bytes"),
        (b"onnx" * 100, "is no engine"),
        (plan()[:-1], "cut off"),
        (plan((10, 9, 0, 34)), "built by tensorrt 10.9.0.34, its manifest says tensorrt 11.4"),
        (plan(magic=0x74727476), "built by tensorrt-rtx 11.4.0.106"),
    ],
)
def test_headers_are_read_before_a_runtime_sees_the_file(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    """The hash in the manifest fits: only the header tells."""
    with pytest.raises(BundleError, match=reason):
        checked_contents(tmp_path, written(tmp_path, content))


def test_the_hash_comes_before_the_header(tmp_path: Path) -> None:
    model = written(tmp_path, plan())
    (tmp_path / "engine.plan").write_bytes(b"other")
    with pytest.raises(BundleError, match="SHA-256"):
        checked_contents(tmp_path, model)
