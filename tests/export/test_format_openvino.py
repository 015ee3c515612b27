"""Score graphs in OpenVINO's format, compiled and run, against PyTorch and the float32 graph."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toys import TOY_MODEL, toy_model

from rsna_lumbar.export.checkpoints.card import default_card
from rsna_lumbar.export.checkpoints.reference import reference_peaks
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.formats import BuildOptions, load_format
from rsna_lumbar.export.formats import openvino as openvino_writer
from rsna_lumbar.export.graph.int8 import LEAST_SLICES
from rsna_lumbar.export.graph.precisions import graph_in
from rsna_lumbar.export.verification.limits import LIMITS
from rsna_lumbar.runtime.backends import Outputs, Session, SessionSettings, load_backend
from rsna_lumbar.runtime.backends import openvino as backend
from rsna_lumbar.runtime.backends.openvino import OpenVinoSession, convolution_precisions
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.errors import ExportError
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, Group
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities, set_peaks

# importorskip would import it with its telemetry.
if find_spec("openvino") is None:
    pytest.skip("OpenVINO is not installed", allow_module_level=True)
openvino = load_format("openvino")

SIZE_PX = 64
CALIBRATION = Calibration(temperature=0.8, bias=(0.2, -0.1, -0.3), floor=1e-3)
CALIBRATION_SLICES = textured_slices(LEAST_SLICES, SIZE_PX, seed=6)
# Of a peak, from float32. Seen are 0.03 and 0.08; random weights are no measure of accuracy.
TOLERANCES = {"bf16": 0.1, "int8": 0.2}


def build(graph: bytes, precision: str = "fp32") -> list[bytes]:
    made = graph_in(precision, graph, scheme=openvino.INT8_SCHEME, calibration=CALIBRATION_SLICES)
    built = openvino.build("openvino", made, precision, BuildOptions(), lambda _: None)
    assert [file.suffix for file in built.files] == [".xml", ".bin"]
    assert (built.target, built.engine) == ("any", None)
    return [file.content for file in built.files]


built_once = cache(build)


def open_session(files: list[bytes], group: Group, precision: str) -> Session:
    prior = tuple(tuple(row) for row in default_card(group).prior.tolist())
    detector = Detector(group, SIZE_PX, CALIBRATION, prior, "maximum", ())  # type: ignore[arg-type]
    model = replace(TOY_MODEL, backend="openvino", precision=precision)
    settings = SessionSettings("cpu", 1)
    return load_backend("openvino").open_session(files, model, detector, settings)


def run(
    files: list[bytes],
    group: Group,
    slices: NDArray[np.uint8],
    member: NDArray[np.bool_],
    precision: str = "fp32",
) -> Outputs:
    with open_session(files, group, precision) as session:
        return session.run(slices, member)


def members(counts: list[int]) -> NDArray[np.bool_]:
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner == np.arange(len(counts))[:, None]


def has_bfloat16() -> bool:
    path = Path("/proc/cpuinfo")
    return path.exists() and "avx512_bf16" in path.read_text()


@pytest.mark.parametrize("group", [SPINAL, FORAMINAL], ids=lambda group: group.name)
@pytest.mark.parametrize("channels", [1, 3])
def test_float32_equals_pytorch(
    make_checkpoint: Any, make_graph: Any, channels: int, group: Group
) -> None:
    """Several studies in a batch, an empty set between them and padding behind."""
    checkpoint = make_checkpoint(group, "n", channels)
    slices, member = textured_slices(9, SIZE_PX, seed=9), members([4, 0, 5, 0])
    outputs = run(built_once(make_graph(group, "n", channels)), group, slices, member)
    expected, _ = set_peaks(reference_peaks(checkpoint, slices), member)
    filled = member.any(axis=1)
    assert np.abs(outputs.peak - expected).max() < LIMITS["fp32"].peak
    graded = probabilities(expected[filled], CALIBRATION)
    assert np.abs(outputs.probability[filled] - graded).max() < LIMITS["fp32"].probability
    prior = np.float32(default_card(group).prior)
    np.testing.assert_array_equal(outputs.probability[~filled], np.stack([prior, prior]))
    assert (outputs.peak[~filled] == 0).all()
    assert (outputs.slice[~filled] == -1).all() and (outputs.cell[~filled] == -1).all()
    assert outputs.slice.dtype == outputs.cell.dtype == np.int64


@pytest.mark.parametrize(
    "precision",
    [
        pytest.param(
            "bf16", marks=pytest.mark.skipif(not has_bfloat16(), reason="CPU without bfloat16")
        ),
        "int8",
    ],
)
def test_lower_precisions_are_near_and_really_run(make_graph: Any, precision: str) -> None:
    graph = make_graph(SPINAL, "n", 1)
    slices, member = textured_slices(9, SIZE_PX, seed=2), members([4, 0, 5])
    expected = run(built_once(graph), SPINAL, slices, member)
    found = run(built_once(graph, precision), SPINAL, slices, member, precision)
    difference = np.abs(found.peak - expected.peak).max()
    assert 1e-4 < difference < TOLERANCES[precision]
    np.testing.assert_array_equal(found.probability[1], expected.probability[1])


@pytest.mark.parametrize(
    ("precision", "runs_in"),
    [("fp32", {"f32"}), ("int8", {"u8"})],
)
def test_every_convolution_runs_in_the_precision(
    make_graph: Any, precision: str, runs_in: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = built_once(make_graph(SPINAL, "n", 1), precision)
    found: list[str] = []

    def note(compiled: Any) -> list[str]:
        found[:] = convolution_precisions(compiled)
        return found

    monkeypatch.setattr(backend, "convolution_precisions", note)
    with open_session(files, SPINAL, precision) as session:
        assert isinstance(session, OpenVinoSession)
    assert len(found) == 54
    assert set(found) == runs_in


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_bytes_do_not_depend_on_what_is_under_way(make_graph: Any, precision: str) -> None:
    slices = textured_slices(12, SIZE_PX, seed=7)
    parts = [(slices[start : start + 5], members([2, 3])) for start in (0, 3, 7)] * 2
    files = built_once(make_graph(SPINAL, "n", 1), precision)
    with open_session(files, SPINAL, precision) as session:
        alone = [session.run(*part).probability.tobytes() for part in parts]
        waits = [session.start(*part) for part in parts]
        together = [wait().probability.tobytes() for wait in waits]
    assert together == alone
    assert len(set(alone)) == 3


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_same_graph_gives_same_files(make_graph: Any, precision: str) -> None:
    graph = make_graph(SPINAL, "n", 1)
    assert build(graph, precision) == built_once(graph, precision)


def test_files_keep_the_metadata_and_name_no_place(make_graph: Any, tmp_path: Path) -> None:
    structure, _ = built_once(make_graph(SPINAL, "n", 1))
    text = structure.decode()
    assert "rsna-lumbar score graph 1" in text
    assert all(name in text for name in SPINAL.classes)
    for place in (Path.cwd(), Path.home(), tmp_path.parents[1], Path(sys.prefix)):
        assert str(place) not in text


def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    build(toy_model(SPINAL))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_what_openvino_does_not_know_is_refused() -> None:
    with pytest.raises(ExportError, match="OpenVINO rejects the graph"):
        openvino.build("openvino", b"no graph", "fp32", BuildOptions(), lambda _: None)


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ExportError, match="the graph is not an ONNX file"):
        build(b"no graph")


def test_half_is_not_offered() -> None:
    assert openvino.PRECISIONS == ("fp32", "bf16", "int8")
    assert load_format("onnx").PRECISIONS == ("fp32", "fp16", "int8")


def test_onnx_is_the_graph_itself() -> None:
    built = load_format("onnx").build("onnx", b"graph", "fp16", BuildOptions(), lambda _: None)
    assert [(file.suffix, file.content) for file in built.files] == [(".onnx", b"graph")]
    assert (built.target, built.engine) == ("any", None)


def test_building_imports_no_telemetry() -> None:
    """In a process of its own: nothing may have imported OpenVINO before."""
    program = (
        "import sys\n"
        "from rsna_lumbar.export.formats import BuildOptions, load_format\n"
        "format = load_format('openvino')\n"
        "graph = sys.stdin.buffer.read()\n"
        "format.build('openvino', graph, 'fp32', BuildOptions(), print)\n"
        "assert 'openvino' in sys.modules\n"
        "sys.exit(any('openvino_telemetry' in name for name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=toy_model(SPINAL), env=os.environ, timeout=600
    )
    assert done.returncode == 0


def test_a_full_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's own error is of C++ streams and names nothing."""

    def serialize(*_: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    full = SimpleNamespace(serialize=serialize)
    monkeypatch.setattr(openvino_writer, "load_openvino", lambda: full)
    with pytest.raises(ExportError, match=r"^OpenVINO cannot write a model into .*set TMPDIR"):
        openvino.build("openvino", toy_model(SPINAL), "fp32", BuildOptions(), str)
