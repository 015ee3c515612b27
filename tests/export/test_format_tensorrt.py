"""Engines: built for real by TensorRT-RTX without a GPU; TensorRT by a module that pretends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest
from fake_builder import CACHE, BuilderFlag, FakeBuilder, NetworkDefinitionCreationFlag
from fake_tensorrt import VERSION, Severity
from rtx_apart import asked_apart, shapes
from toys import SIZE_PX, toy_model

from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.formats import BuildOptions, Built, Report, tensorrt_network
from rsna_lumbar.export.formats import tensorrt as formats
from rsna_lumbar.export.formats.builder_process import Voice, Work
from rsna_lumbar.export.formats.tensorrt import build
from rsna_lumbar.export.graph import score_graph as score_graph_names
from rsna_lumbar.runtime.bundle.plan_header import read_plan_header
from rsna_lumbar.runtime.bundle.records import Engine
from rsna_lumbar.runtime.bundle.store import MODEL_FILE_NAME, model_file_name
from rsna_lumbar.runtime.core.errors import BuildError, ExportError, UsageError
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, Group
from rsna_lumbar.runtime.system.gpus import CudaDevice

CALIBRATION_SLICES = 64
OPTIONS = BuildOptions(best_batch=4, largest_batch=8)
ALL = ("8.0", "8.6", "8.9", "12.0", "12.1")  # that TensorRT-RTX 1.7 builds for unasked
# Where and how plans of TensorRT-RTX 1.7.1 name their targets, as seen in plans for one each.
TARGETS_AT = 32
TARGET_BITS = {"7.5": 1, "8.0": 2, "8.6": 4, "8.9": 8, "12.0": 16, "12.1": 32}
L4 = CudaDevice("NVIDIA L4", "8.9", 23 << 30)
H100 = CudaDevice("NVIDIA H100", "9.0", 80 << 30)
TOY = toy_model(SPINAL)


@pytest.fixture
def rtx() -> str:
    """Version of the library, which no test loads into this process."""
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt-rtx is not installed; no engine was built")
    return version("tensorrt-rtx")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the machine has none, whatever it has."""
    use_gpus(monkeypatch)


def use_gpus(monkeypatch: pytest.MonkeyPatch, *gpus: CudaDevice) -> None:
    monkeypatch.setattr(formats, "cuda_devices", lambda: gpus)


@pytest.fixture
def lines() -> list[str]:
    return []


def build_here(work: Work, graph: bytes, *, report: Report, **_: object) -> Built:
    """What a builder's process does, in this one."""
    return work(graph, Voice(lambda said: report(said) if isinstance(said, str) else None))


@pytest.fixture
def pretender(monkeypatch: pytest.MonkeyPatch) -> FakeBuilder:
    """TensorRT on a machine with an L4; it pretends in this process."""
    module = FakeBuilder()
    monkeypatch.setattr(formats, "build_apart", build_here)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    use_gpus(monkeypatch, L4)
    return module


def in_precision(graph: bytes, precision: str) -> bytes:
    if precision == "fp32":
        return graph
    if precision == "fp16":
        half: bytes = import_module("rsna_lumbar.export.graph.float16").to_half(graph)
        return half
    quantise = pytest.importorskip("rsna_lumbar.export.graph.int8").quantise
    slices = textured_slices(CALIBRATION_SLICES, SIZE_PX, seed=3)
    quantised: bytes = quantise(graph, slices, scheme=formats.INT8_SCHEME)
    return quantised


# Built for real


@pytest.mark.parametrize(("group", "channels"), [(SPINAL, 1), (FORAMINAL, 3)])
@pytest.mark.parametrize("precision", formats.PRECISIONS)
def test_a_real_engine_is_built_without_a_gpu(
    rtx: str,
    make_graph: Any,
    group: Group,
    channels: int,
    precision: str,
    tmp_path: Path,
    lines: list[str],
) -> None:
    graph = in_precision(make_graph(group, "n", channels), precision)
    options = BuildOptions(best_batch=4, largest_batch=8, log=tmp_path / "build.log")
    built = build("tensorrt-rtx", graph, precision, options, lines.append)
    (file,) = built.files
    header = read_plan_header(file.content)
    assert header.library == "tensorrt-rtx"
    assert header.version == rtx
    assert header.length == len(file.content)
    assert built.engine == Engine(rtx, ALL, 1, 4, 8)
    name = model_file_name(group, "tensorrt-rtx", built.target, precision, "ab" * 32, file.suffix)
    assert MODEL_FILE_NAME.fullmatch(name), name
    assert "Engine generation completed" in (tmp_path / "build.log").read_text()
    assert lines[0] == f"tensorrt-rtx {precision}: Building engine"
    assert 2 <= len(lines) <= 8


def test_half_precision_makes_a_plan_with_half_the_weights(rtx: str, make_graph: Any) -> None:
    graph = make_graph(SPINAL, "n", 1)
    single, half = (
        len(build("tensorrt-rtx", one, "", OPTIONS, str).files[0].content)
        for one in (graph, in_precision(graph, "fp16"))
    )
    assert single - half > 0.4 * len(graph)  # nearly all of the graph is float32 weights


@pytest.mark.parametrize(
    ("asked", "target", "capabilities"),
    [
        ((), "sm80.sm86.sm89.sm120.sm121", ALL),
        (("8.9",), "sm89", ("8.9",)),
        (("12.0", "7.5"), "sm75.sm120", ("7.5", "12.0")),
    ],
)
def test_targets_are_those_asked_for_in_rising_order(
    rtx: str, asked: tuple[str, ...], target: str, capabilities: tuple[str, ...]
) -> None:
    options = BuildOptions(best_batch=2, largest_batch=2, compute_capabilities=asked)
    built = build("tensorrt-rtx", TOY, "fp32", options, str)
    assert built.engine is not None
    assert (built.target, built.engine.compute_capabilities) == (target, capabilities)
    (bits,) = struct.unpack_from("<I", built.files[0].content, TARGETS_AT)
    assert bits == sum(TARGET_BITS[one] for one in capabilities)


@pytest.mark.parametrize("asked", [("9.0",), ("8.9", "9.0"), ("sm89",), ("",)])
def test_what_rtx_does_not_build_for_is_refused_with_what_it_does(
    rtx: str, asked: tuple[str, ...]
) -> None:
    options = BuildOptions(compute_capabilities=asked)
    with pytest.raises(UsageError, match=r"there is 7\.5, 8\.0, .*, 12\.1; .*--format tensorrt "):
        build("tensorrt-rtx", TOY, "fp32", options, str)


def test_rtx_builds_for_the_gpu_that_is_here(rtx: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_gpus(monkeypatch, L4, L4)
    assert build("tensorrt-rtx", TOY, "fp32", OPTIONS, str).target == "sm89"
    use_gpus(monkeypatch, H100)
    with pytest.raises(UsageError, match=r"does not build for compute capability 9\.0"):
        build("tensorrt-rtx", TOY, "fp32", OPTIONS, str)


def test_the_profile_has_dynamic_slices_and_fixed_sets(rtx: str) -> None:
    found = asked_apart(shapes, TOY)
    assert found["slices"] == [[n, SIZE_PX, SIZE_PX] for n in (1, 4, 8)]
    assert found["member"] == [[8, n] for n in (1, 4, 8)]
    assert found["peak"] == [8, len(SPINAL.classes)]
    assert found["probability"] == [8, len(SPINAL.locations), 3]


def test_a_graph_that_it_cannot_parse_is_refused_with_the_node(rtx: str, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(TOY)
    node = next(one for one in model.graph.node if one.op_type == "Log")
    node.op_type, node.name = "Det", "the_determinant"
    log = tmp_path / "build.log"
    options = BuildOptions(best_batch=4, largest_batch=8, log=log)
    with pytest.raises(ExportError, match=r"the_determinant \(Det\): ") as caught:
        build("tensorrt-rtx", model.SerializeToString(), "fp32", options, str)
    assert "\n" not in str(caught.value)
    assert "ERROR" in log.read_text()


@pytest.mark.parametrize("graph", [b"", TOY[:1000], b"\xff\xff"])
def test_what_is_no_score_graph_is_refused(rtx: str, graph: bytes) -> None:
    with pytest.raises(ExportError, match="graph"):
        build("tensorrt-rtx", graph, "fp32", OPTIONS, str)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_building_arrives(rtx: str, number: int) -> None:
    """As from Ctrl-C or kill, in the middle of the library's own work."""

    def terminate(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            build("tensorrt-rtx", TOY, "fp32", OPTIONS, lambda _: os.kill(os.getpid(), number))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not multiprocessing.active_children()


def test_the_library_is_loaded_into_no_process_but_its_own(
    rtx: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)  # of a test that runs engines
    assert build("tensorrt-rtx", TOY, "fp32", OPTIONS, str).files
    assert "tensorrt_rtx" not in sys.modules


def test_the_log_is_appended_to(rtx: str, tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text("before\n")
    build("tensorrt-rtx", TOY, "fp32", BuildOptions(1, 1, log=log), str)
    once = log.read_text()
    build("tensorrt-rtx", TOY, "fp32", BuildOptions(1, 1, log=log), str)
    assert once.startswith("before\n") and log.read_text().startswith(once)
    assert len(log.read_text()) > 1.5 * len(once)


# TensorRT, pretended


def test_tensorrt_builds_for_the_gpu_here(pretender: FakeBuilder, lines: list[str]) -> None:
    built = build("tensorrt", TOY, "fp32", OPTIONS, lines.append)
    assert built.target == "sm89"
    assert built.engine == Engine(VERSION, ("8.9",), 1, 4, 8)
    assert pretender.network_flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert BuilderFlag.TF32 not in pretender.config.flags
    (profile,) = pretender.config.profiles
    assert profile["slices"] == tuple((n, SIZE_PX, SIZE_PX) for n in (1, 4, 8))
    assert lines == ["tensorrt fp32: Building", "tensorrt fp32: Timing"]


@pytest.mark.parametrize("asked", [("8.6",), ("8.9", "8.6")])
def test_tensorrt_does_not_build_for_another_gpu(
    pretender: FakeBuilder, asked: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match=r"NVIDIA L4, compute capability 8\.9"):
        build("tensorrt", TOY, "fp32", BuildOptions(compute_capabilities=asked), str)


def test_without_a_gpu_tensorrt_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "load_library", lambda name: pytest.fail("was imported"))
    with pytest.raises(UsageError, match="--format tensorrt-rtx"):
        build("tensorrt", TOY, "fp32", OPTIONS, str)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_missing_library_is_named_with_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gpus(monkeypatch, L4)
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    with pytest.raises(UsageError, match=rf"pip install 'rsna-lumbar\[{name}\]'"):
        build(name, TOY, "fp32", OPTIONS, str)


@pytest.mark.parametrize(
    ("stored", "loaded", "said"),
    [
        (None, b"", []),
        (CACHE, CACHE, []),
        (b"timings of TensorRT 9", b"", ["another TensorRT"]),
        (b"rubbish", b"", ["another TensorRT"]),
    ],
)
def test_timings_are_kept_and_those_of_elsewhere_ignored(
    pretender: FakeBuilder,
    tmp_path: Path,
    lines: list[str],
    stored: bytes | None,
    loaded: bytes,
    said: list[str],
) -> None:
    path = tmp_path / "timings"
    if stored is not None:
        path.write_bytes(stored)
    options = BuildOptions(best_batch=4, largest_batch=8, timing_cache=path)
    build("tensorrt", TOY, "fp32", options, lines.append)
    assert pretender.config.cache is not None
    assert pretender.config.cache.content == loaded
    assert path.read_bytes() == CACHE
    remarks = [line for line in lines if not line.startswith("tensorrt fp32: ")]
    assert len(remarks) == len(said)
    assert all(words in line for words, line in zip(said, remarks, strict=True))


def test_timings_that_cannot_be_kept_cost_no_engine(
    pretender: FakeBuilder, tmp_path: Path, lines: list[str]
) -> None:
    options = BuildOptions(4, 8, timing_cache=tmp_path / "missing" / "timings")
    assert build("tensorrt", TOY, "fp32", options, lines.append).files
    assert any("cannot be written" in line for line in lines)


def test_a_fault_of_ours_stops_a_build_before_its_end(pretender: FakeBuilder) -> None:
    """The library prints what is raised in what it calls, and goes on."""

    def fail(line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        build("tensorrt", TOY, "fp32", OPTIONS, fail)
    assert pretender.stopped


def test_an_error_has_the_target(pretender: FakeBuilder) -> None:
    pretender.fails = True
    with pytest.raises(BuildError) as caught:
        build("tensorrt", TOY, "fp32", OPTIONS, str)
    assert caught.value.target == "sm89"


def test_the_errors_of_a_build_are_passed_on(
    pretender: FakeBuilder, capsys: pytest.CaptureFixture[str]
) -> None:
    """And logged: what a builder's process prints is the log."""
    pretender.fails = True
    pretender.says = [
        (Severity.WARNING, "slow"),
        (Severity.ERROR, "no tactic\nfor this"),
        (Severity.ERROR, "no tactic\nfor this"),
    ]
    with pytest.raises(ExportError, match=r"cannot build the engine: no tactic for this$"):
        build("tensorrt", TOY, "fp32", OPTIONS, str)
    assert capsys.readouterr().err.startswith("WARNING: slow\nERROR: no tactic")


@pytest.mark.parametrize(
    "module", [FakeBuilder(header="1.2.3.5"), FakeBuilder(library="tensorrt-rtx")]
)
def test_a_header_that_says_something_else_is_an_error(
    module: FakeBuilder, pretender: FakeBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(ExportError, match=f"tensorrt {VERSION} made a plan whose header says"):
        build("tensorrt", TOY, "fp32", OPTIONS, str)


@pytest.mark.parametrize("batches", [(0, 8), (9, 8), (-1, -1)])
def test_batches_that_no_profile_can_have(batches: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="cannot be tuned"):
        build("tensorrt-rtx", TOY, "fp32", BuildOptions(*batches), str)


# The graph


def test_the_names_are_those_of_the_score_graph() -> None:
    assert tensorrt_network.INPUTS == score_graph_names.INPUTS
    assert tensorrt_network.OUTPUTS == score_graph_names.OUTPUTS
