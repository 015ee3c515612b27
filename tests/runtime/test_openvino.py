"""The OpenVINO session on a toy graph, beside ONNX Runtime, and what it refuses."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ending import DEADLINE_S
from numpy.typing import NDArray
from toys import PRIOR_ROW, SIZE_PX, TOY_MODEL, toy_model

from rsna_lumbar.runtime.backends import Session, SessionSettings, load_backend
from rsna_lumbar.runtime.backends import openvino as backend
from rsna_lumbar.runtime.backends import openvino_library as library
from rsna_lumbar.runtime.backends.openvino_library import load_openvino, openvino_core
from rsna_lumbar.runtime.bundle.records import Detector, Model
from rsna_lumbar.runtime.core.errors import BackendError, UsageError
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.postprocess import Calibration

# importorskip would import it with its telemetry.
if find_spec("openvino") is None:
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

DETECTOR = Detector(
    group=SPINAL,
    size_px=SIZE_PX,
    calibration=Calibration(temperature=1.5, bias=(0.1, 0.0, -0.2), floor=1e-3),
    prior=(PRIOR_ROW,) * len(SPINAL.locations),
    combination="mean",
    models=(),
)
MODEL = replace(TOY_MODEL, backend="openvino")
Array = NDArray[Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The toy graph in OpenVINO's format."""
    openvino = load_openvino()
    folder = tmp_path_factory.mktemp("openvino")
    graph = openvino_core().read_model(toy_model(SPINAL), b"")
    openvino.serialize(graph, str(folder / "toy.xml"), str(folder / "toy.bin"))
    return [(folder / name).read_bytes() for name in ("toy.xml", "toy.bin")]


def open_session(files: list[bytes], model: Model = MODEL, **changes: Any) -> Session:
    settings = SessionSettings(**{"device": "cpu", "threads": 1, **changes})
    return load_backend("openvino").open_session(files, model, DETECTOR, settings)


def batch(seed: int, count: int, sets: int) -> tuple[Array, Array]:
    """Random slices in so many sets, the last of which is empty where there are several."""
    rng = np.random.default_rng(seed)
    brightest = rng.integers(20, 256, (count, 1, 1))
    slices = rng.integers(0, brightest, (count, SIZE_PX, SIZE_PX)).astype(np.uint8)
    owner = np.arange(count) * max(1, sets - 1) // count
    return slices, owner == np.arange(sets)[:, None]


def as_bytes(outputs: Any) -> list[bytes]:
    names = ("peak", "probability", "slice", "cell")
    return [getattr(outputs, name).tobytes() for name in names]


@pytest.mark.parametrize(("count", "sets"), [(1, 1), (5, 1), (7, 4), (16, 3)])
def test_equals_onnxruntime(files: list[bytes], count: int, sets: int) -> None:
    slices, member = batch(count, count, sets)
    with load_backend("onnxruntime").open_session(
        [toy_model(SPINAL)], TOY_MODEL, DETECTOR, SessionSettings("cpu", 1)
    ) as session:
        expected = session.run(slices, member)
    with open_session(files) as session:
        found = session.run(slices, member)
    assert session.device == "cpu"
    np.testing.assert_allclose(found.peak, expected.peak, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.probability, expected.probability, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.slice, expected.slice)
    np.testing.assert_array_equal(found.cell, expected.cell)
    assert found.peak.dtype == found.probability.dtype == np.float32
    assert found.slice.dtype == found.cell.dtype == np.int64
    assert (found.slice[~member.any(axis=1)] == -1).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_under_way_do_not_touch_each_other(files: list[bytes], threads: int) -> None:
    """Started together, waited for in reverse, of several shapes: the bytes of one at a time."""
    batches = [batch(seed, 3 + seed % 4, 1 + seed % 3) for seed in range(9)]
    with open_session(files, threads=threads) as session:
        alone = [as_bytes(session.run(*one)) for one in batches]
        waits = [session.start(*one) for one in batches]
        together = [as_bytes(wait()) for wait in reversed(waits)]
    assert together[::-1] == alone
    assert len({tuple(one) for one in alone}) == len(alone)


def test_answers_outlive_the_next_batch_and_the_session(files: list[bytes]) -> None:
    with open_session(files) as session:
        first = session.run(*batch(1, 4, 2))
        kept = as_bytes(first)
        session.run(*batch(2, 4, 2))
    assert as_bytes(first) == kept


def test_keeps_the_arrays_that_it_reads(files: list[bytes]) -> None:
    """The caller's own references may go; slices that are no contiguous array are copied."""
    slices, member = batch(3, 6, 2)
    with open_session(files) as session:
        expected = as_bytes(session.run(slices, member))
        wait = session.start(np.asfortranarray(slices), np.asfortranarray(member))
        assert as_bytes(wait()) == expected
        waits = [session.start(slices.copy(), member.copy()) for _ in range(4)]
        np.zeros_like(slices)  # may take the memory of what nobody holds
        assert [as_bytes(wait()) for wait in waits] == [expected] * 4


def test_batches_of_a_size_that_is_known(
    files: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller ones are filled up with slices that belong to no set: the same answers."""
    static: list[bool] = []
    look = backend.convolution_precisions

    def note(compiled: Any) -> list[str]:
        static.append(compiled.input("slices").get_partial_shape().is_static)
        return look(compiled)

    monkeypatch.setattr(backend, "convolution_precisions", note)
    with open_session(files) as any_size, open_session(files, batch_size=8) as eight:
        assert static == [False, True]
        for count, sets in ((1, 1), (5, 2), (8, 3)):
            slices, member = batch(count, count, sets)
            assert_same(eight.run(slices, member), any_size.run(slices, member))
        assert (any_size.run(*batch(9, 9, 2)).peak >= 0).all()
        with pytest.raises(BackendError, match="9 slices are too many for batches of 8"):
            eight.run(*batch(9, 9, 2))


def assert_same(filled: Any, expected: Any) -> None:
    np.testing.assert_allclose(filled.peak, expected.peak, rtol=0, atol=1e-6)
    np.testing.assert_allclose(filled.probability, expected.probability, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(filled.slice, expected.slice)
    np.testing.assert_array_equal(filled.cell, expected.cell)


def test_two_batches_are_worth_having_under_way(files: list[bytes]) -> None:
    with open_session(files) as session:
        assert session.ahead == 2
    assert load_backend("openvino").default_batch_size("cpu") == 8


@pytest.mark.parametrize("device", ["cuda:0", "auto", "gpu"])
def test_other_devices_are_refused(files: list[bytes], device: str) -> None:
    with pytest.raises(UsageError, match=f"CPU only, not on {device}; use --device cpu"):
        open_session(files, device=device)


def test_half_is_refused(files: list[bytes]) -> None:
    with pytest.raises(UsageError, match="no fp16; it has fp32, bf16, int8"):
        open_session(files, model=replace(MODEL, precision="fp16"))


@pytest.mark.parametrize(
    ("precision", "found", "message"),
    [
        (
            "bf16",
            ["f32", "f32"],
            "2 of 2 convolutions in f32 on this CPU, not in bf16, which needs AVX-512 BF16",
        ),
        ("bf16", ["bf16", "f32"], "1 of 2 convolutions in f32 on this CPU"),
        ("fp32", ["f32", "bf16"], "1 of 2 convolutions in bf16 on this CPU, not in fp32; choose"),
        (
            "int8",
            ["f32", "f32", "u8"],
            "2 of 3 convolutions in f32 on this CPU, not in int8; choose",
        ),
    ],
)
def test_another_precision_than_asked_for_is_refused(
    files: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    found: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(backend, "convolution_precisions", lambda _: found)
    with pytest.raises(UsageError, match=message):
        open_session(files, model=replace(MODEL, precision=precision))


@pytest.mark.parametrize(
    ("precision", "found"),
    [("bf16", ["bf16"]), ("fp32", ["f32"]), ("int8", ["u8", "i8", "f32"]), ("fp32", [])],
)
def test_the_precision_asked_for_is_taken(
    files: list[bytes], monkeypatch: pytest.MonkeyPatch, precision: str, found: list[str]
) -> None:
    monkeypatch.setattr(backend, "convolution_precisions", lambda _: found)
    slices, member = batch(4, 3, 1)
    with open_session(files, model=replace(MODEL, precision=precision)) as session:
        assert (session.run(slices, member).peak > 0).all()


@pytest.mark.parametrize("damaged", [[b"<net", b""], [b"", b""], [b"\xff\xfe", b"12345678"]])
def test_damaged_files_are_refused(damaged: list[bytes]) -> None:
    with pytest.raises(BackendError, match="OpenVINO refuses the model"):
        open_session(damaged)


def test_wrong_shapes_fail_as_a_backend(files: list[bytes]) -> None:
    slices, member = batch(5, 4, 1)
    with open_session(files) as session:
        with pytest.raises(BackendError, match="OpenVINO failed on cpu"):
            session.run(slices[:, :-1], member)
        assert (session.run(slices, member).peak > 0).all()


@pytest.mark.parametrize("before", [None, ModuleType("openvino_telemetry")])
def test_the_library_is_imported_without_telemetry(
    monkeypatch: pytest.MonkeyPatch, before: ModuleType | None
) -> None:
    """Also where the telemetry was imported before; it is there again afterwards."""
    seen = []

    def import_module(name: str) -> ModuleType:
        seen.append((name, sys.modules[library.TELEMETRY]))
        raise ImportError("no module", name=name)

    monkeypatch.setattr(library, "import_module", import_module)
    monkeypatch.delitem(sys.modules, library.LIBRARY, raising=False)
    monkeypatch.delitem(sys.modules, library.TELEMETRY, raising=False)
    if before:
        monkeypatch.setitem(sys.modules, library.TELEMETRY, before)
    with pytest.raises(UsageError, match=r"openvino is not installed.*rsna-lumbar\[openvino\]"):
        load_openvino()
    assert seen == [("openvino", None)]
    assert sys.modules.get(library.TELEMETRY) is before


def test_a_model_from_the_cache_gives_the_same_bytes(
    files: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    slices, member = batch(5, 7, 3)
    found = []
    for _ in range(2):
        with open_session(files) as session:
            found.append(as_bytes(session.run(slices, member)))
        (file,) = (tmp_path / "rsna-lumbar" / "openvino").iterdir()
    assert found[0] == found[1]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with open_session(files) as session:
        assert as_bytes(session.run(slices, member)) == found[0]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_an_interrupt_after_sessions_were_closed_arrives(files: list[bytes], where: str) -> None:
    """A plugin freed out of order, or in another thread, leaves freed memory for signals."""
    ended = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).parents[1] / "support" / "interrupted_openvino.py"),
            where,
        ],
        input=pickle.dumps((files, MODEL, DETECTOR)),
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, b"interrupted"), ended.stderr
