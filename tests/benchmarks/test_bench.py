"""rsna-bench model on small slices: it compares like with like, and what it prints is right."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rsna_lumbar.benchmarks.cli import main
from rsna_lumbar.benchmarks.model import run
from rsna_lumbar.benchmarks.model.contenders import (
    BASELINE,
    CONTENDERS,
    Contender,
    chosen_contenders,
)
from rsna_lumbar.benchmarks.model.engines import LIBRARY_OF
from rsna_lumbar.benchmarks.model.measure import TimedBlock, memory_needed, time_block
from rsna_lumbar.benchmarks.model.peak import MAKERS, Peak, Product, find_peaks
from rsna_lumbar.benchmarks.model.rows import block_rows, highest_peaks
from rsna_lumbar.benchmarks.model.work import Peaks, ScoreSeries, Work, make_work, own_export
from rsna_lumbar.export.checkpoints.checkpoint import read_checkpoint
from rsna_lumbar.export.checkpoints.synthetic import (
    random_detector,
    save_checkpoint,
    textured_slices,
)
from rsna_lumbar.export.formats import FORMATS
from rsna_lumbar.export.verification.limits import LIMITS
from rsna_lumbar.runtime.core.errors import BackendError, LumbarError, UsageError
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """ultralytics writes its settings into a folder of the test run."""
    monkeypatch.setitem(os.environ, "YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("yolo")))


@pytest.fixture(autouse=True)
def quick_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile without its code generator, which takes half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large ones take seconds, which a test of the command need not wait for."""
    monkeypatch.setattr(run, "find_peaks", partial(find_peaks, shapes=((256, 256, 256),), tries=2))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("bench")
    path = folder / "spinal.pt"
    save_checkpoint(random_detector(SPINAL, channels=1, size_px=64), path)
    return make_work(
        read_checkpoint(path), size_px=64, batch_size=5, series_slices=12, threads=1, folder=folder
    )


SERIES = textured_slices(12, 64, seed=5)
ROUNDING = LIMITS["fp32"].peak
# Over slices, after the mean of each class. Measured: bf16 0.998, int8 0.977 (OpenVINO) and 0.964
# (ONNX Runtime); a network that does not look at its slices has 0.
LEAST_CORRELATION = 0.9


def answers(contender: Contender, work: Work) -> tuple[Peaks, Peaks]:
    """Peaks of the series (C,) and of each slice (N, C); skips where it cannot be had."""
    by_slice = replace(work, batch_size=1)
    try:
        with contender.open(work) as score:
            series = score(SERIES)
        with contender.open(by_slice) as score:
            return series, np.stack([score(one[None]) for one in SERIES])
    except UsageError as error:
        pytest.skip(f"{contender} cannot be had here: {error}")


@pytest.fixture(scope="module")
def baseline(work: Work) -> tuple[Peaks, Peaks]:
    series, by_slice = answers(BASELINE, work)
    assert np.ptp(series) > 0.05
    assert np.median(logits(by_slice).std(axis=0)) > 0.3
    return series, by_slice


def logits(peaks: Peaks) -> Peaks:
    """Of each slice (N, C), without the mean of each class."""
    found = np.log(peaks / (1 - peaks))
    return np.asarray(found - found.mean(axis=0), np.float32)


OTHERS = [one for one in CONTENDERS if one is not BASELINE and one.key != "predict"]


@pytest.mark.parametrize("contender", OTHERS, ids=lambda one: one.key)
def test_contenders_answer_as_the_baseline(
    contender: Contender, work: Work, baseline: tuple[Peaks, Peaks]
) -> None:
    """Within what a bundle of that precision may differ by."""
    if contender.key == "pytorch-compile":  # each size of batch is traced, which takes seconds
        work = replace(work, batch_size=6)
    series, by_slice = answers(contender, work)
    expected, expected_by_slice = baseline
    limits = LIMITS[contender.precision]
    assert np.abs(series - expected).max() <= limits.peak
    p, q = (probabilities(one, Calibration()) for one in (series, expected))
    assert np.abs(p - q).max() <= limits.probability
    ours, theirs = logits(by_slice).ravel(), logits(expected_by_slice).ravel()
    assert np.corrcoef(ours, theirs)[0, 1] > LEAST_CORRELATION
    if contender.precision != "fp32":  # else it did not compute in that precision at all
        assert np.abs(series - expected).max() > ROUNDING


def test_predict_has_the_highest_peak_of_all_classes(
    work: Work, baseline: tuple[Peaks, Peaks]
) -> None:
    """It keeps one class an anchor, so that the others may differ."""
    (predict,) = (one for one in CONTENDERS if one.key == "predict")
    found, _ = answers(predict, work)
    assert found.max() == pytest.approx(baseline[0].max(), abs=1e-4)


def test_predict_leaves_other_contenders_their_threads(work: Work) -> None:
    """ultralytics sets PyTorch, in the whole process, to one thread less than there are cores."""
    (predict,) = (one for one in CONTENDERS if one.key == "predict")
    before, threads = torch.get_num_threads(), (os.cpu_count() or 1) + 1
    try:
        with predict.open(replace(work, threads=threads)) as score:
            score(SERIES)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_own_exports_leave_pytorch_its_threads(work: Work, tmp_path: Path, name: str) -> None:
    before, threads = torch.get_num_threads(), (os.cpu_count() or 1) + 1
    try:
        torch.set_num_threads(threads)
        own_export(work.checkpoint, work.size_px, tmp_path, name)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_network_that_does_not_compile_is_missing(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler\nfound")

    monkeypatch.setattr(torch, "compile", refuse)
    (compiled,) = (one for one in CONTENDERS if one.key == "pytorch-compile")
    with pytest.raises(UsageError, match=r"torch.compile failed: RuntimeError: no C\+\+ compiler$"):
        compiled.open(work).__enter__()


@pytest.mark.parametrize(
    ("batch_size", "series_slices", "sizes"),
    [(5, 12, (2, 5)), (4, 12, (4,)), (16, 12, (12, 16)), (1, 12, (1,))],
)
def test_sizes_of_the_batches_that_come(
    work: Work, batch_size: int, series_slices: int, sizes: tuple[int, ...]
) -> None:
    found = replace(work, batch_size=batch_size, series_slices=series_slices)
    assert found.batch_sizes == sizes


def timed(work: Work, *contenders: Contender) -> TimedBlock:
    return time_block(
        work, SERIES, contenders=contenders, products=(), rounds=2, within_s=float("inf")
    )


@pytest.mark.parametrize("error", [UsageError("no library"), BackendError("refused")])
def test_what_cannot_be_had_is_named(error: LumbarError, work: Work) -> None:
    def absent(_: Work) -> AbstractContextManager[ScoreSeries]:
        raise error

    missing = Contender("nobody", "nobody's", "int8", absent)
    found = timed(work, BASELINE, missing)
    assert (list(found.batch_s), found.missing) == ([BASELINE], {missing: str(error)})
    assert (found.rounds, found.series_s[BASELINE].shape) == (2, (2,))


def test_rows_worked_by_hand(work: Work) -> None:
    """Batch 5: 5 multiply-adds a slice take 2 ns; the product's 8 operations at best 1 ns."""
    whole = replace(work.whole, multiply_adds=5)
    scored = replace(work.scored, multiply_adds=4)
    own, ours = chosen_contenders("ultralytics-onnx,onnx-fp32")[1:]
    product = Product("fp32", "torch", (1, 2, 2), lambda: None)
    times = {BASELINE: [10e-9, 10e-9, 20e-9], own: [5e-9] * 3, ours: [2e-9, 4e-9, 2e-9]}
    samples = {one: np.array(seconds) for one, seconds in times.items()}
    block = TimedBlock(
        work=replace(work, whole=whole, scored=scored),
        batch_s=samples,
        series_s={one: 3 * found for one, found in samples.items()},
        product_s={product: np.array([2e-9, 1e-9, 4e-9])},
        differences={BASELINE: 0.0, own: 0.0, ours: 1e-6},
        missing={},
    )
    peaks = highest_peaks([Peak(product, 3.0)], [block])
    assert peaks["fp32"].gops == pytest.approx(8)
    first, second, third = block_rows(block, peaks)
    assert first["slice_ms"].median == pytest.approx(2e-6)
    assert first["gops"] == pytest.approx(5)  # 10 operations in 2 ns
    assert first["share_of_peak"] == pytest.approx(5 / 8)
    assert (first["over_own_export"], second["over_own_export"]) == (None, None)
    assert third["over_own_export"].median == pytest.approx(2.5)
    speed_up = third["speed_up"]
    assert [speed_up.low, speed_up.median, speed_up.high] == pytest.approx([2.5, 5, 10])
    assert third["gops"] == pytest.approx(8 / 0.4)
    assert third["series_ms"].median == pytest.approx(6e-6)


def test_memory_grows_with_batch_and_contenders(work: Work) -> None:
    """64 px: the first convolution writes 16 channels of 32 x 32 numbers."""
    assert work.whole.largest_output == work.scored.largest_output == 16 * 32 * 32
    assert memory_needed(work, 6) == 6 * memory_needed(work, 1)
    assert memory_needed(replace(work, batch_size=10), 1) == 2 * memory_needed(work, 1)
    assert memory_needed(work, 1) >= 5 * 16 * 32 * 32 * 4


def test_the_fastest_product_of_every_library() -> None:
    for precision, makers in MAKERS.items():
        peaks = find_peaks(precision, threads=1, shapes=((64, 64, 64), (64, 128, 64)), tries=2)
        assert [peak.product.library for peak in peaks] == list(makers)
        for peak in peaks:
            assert peak.product.operations in (2 * 64**3, 4 * 64**3)
            assert 0.01 < peak.gops < 1e5
    assert {one.precision for one in CONTENDERS} == set(MAKERS)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_products_are_products(precision: str) -> None:
    """What ONNX Runtime is timed on really multiplies."""
    call = MAKERS[precision]["ONNX Runtime"]((3, 4, 5), 1)
    (found,) = np.asarray(call(), object)
    generator = np.random.default_rng(0)
    left: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    if precision == "fp32":
        left, right = generator.normal(size=(3, 4)), generator.normal(size=(4, 5))
    else:
        left = generator.integers(0, 256, (3, 4)).astype(np.float64)
        right = generator.integers(-127, 128, (4, 5)).astype(np.float64)
    assert np.allclose(np.asarray(found, np.float64), left @ right, rtol=1e-5)


def test_every_format_has_a_title() -> None:
    assert set(LIBRARY_OF) == set(FORMATS)


def test_contenders_are_chosen_by_key() -> None:
    assert chosen_contenders(None) == CONTENDERS
    found = chosen_contenders("onnx-int8, predict")
    assert [one.key for one in found] == ["pytorch", "predict", "onnx-int8"]
    with pytest.raises(UsageError, match=r"no contender tvm; there is pytorch, "):
        chosen_contenders("tvm,onnx-fp32")
    keys = [one.key for one in CONTENDERS]
    assert len(set(keys)) == len(keys)
    assert {one.peer for one in CONTENDERS if one.peer} <= set(keys)


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["--sizes", "64", "--rounds", "1", "--series-slices", "3", *words])
    code = caught.value.code
    assert isinstance(code, int)
    return code


def test_the_command_prints_a_table_and_writes_files(tmp_path: Path, capsys: Capture) -> None:
    files = {suffix: tmp_path / f"bench.{suffix}" for suffix in ("csv", "json", "png")}
    words = ["--contenders", "ultralytics-onnx,onnx-fp32", "--batch-sizes", "1,2"]
    outputs = ["--json", str(files["json"]), "--csv", str(files["csv"])]
    assert bench(*words, *outputs, "--plot", str(files["png"]), "--group", "spinal") == 0
    table = capsys.readouterr().out
    assert table.startswith("$ rsna-bench model --sizes 64 ") and str(tmp_path) not in table
    content = json.loads(files["json"].read_text())
    titles = [block["title"] for block in content["blocks"]]
    assert [title.split(";")[0] for title in titles] == [
        "64 px, batch 1, 1 rounds",
        "64 px, batch 2, 1 rounds",
    ]
    assert {"threads", "machine", "versions", "peak fp32"} <= set(content["conditions"])
    for block in content["blocks"]:
        check_rows(block["rows"])
    rows = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert [row["batch_size"] for row in rows] == ["1", "1", "1", "2", "2", "2"]
    assert all(row["name"] in table and "torch" in row["versions"] for row in rows)
    assert files["png"].read_bytes().startswith(b"\x89PNG")


def check_rows(rows: list[Mapping[str, dict[str, float]]]) -> None:
    assert [row["contender"] for row in rows] == ["pytorch", "ultralytics-onnx", "onnx-fp32"]
    for row in rows:
        assert row["slice_ms"]["low"] > 0
        assert row["slice_ms"]["median"] <= row["slice_ms"]["p95"] <= row["slice_ms"]["high"]
        assert row["largest_difference"] < 1e-4  # type: ignore[operator]
        assert row["share_of_peak"] > 0  # type: ignore[operator]
    assert rows[0]["speed_up"]["median"] == 1
    assert rows[2]["over_own_export"]["median"] > 0
    assert rows[2]["multiply_adds"] < rows[1]["multiply_adds"]  # type: ignore[operator]


def test_no_batch_that_fits_is_an_error(
    work: Work, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(run.psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 10))
    monkeypatch.setattr(run, "make_work", lambda *_, **__: work)
    words = ["--contenders", "pytorch-fused", "--batch-sizes", "2"]
    assert bench(*words, "--weights", str(work.checkpoint.path)) == 2
    assert "64 px, batch 2: 2 contenders need about" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--sizes", "100"], ["--sizes", "x"], ["--batch-sizes", "0"]])
def test_wrong_sizes_are_refused(words: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["--help"], "Commands:"),
        (["model", "--help"], "--batch-sizes"),
        (["--debug", "model", "--help"], "--batch-sizes"),
    ],
)
def test_the_group_and_its_default(words: list[str], seen: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    assert seen in capsys.readouterr().out


def test_help_names_every_part(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in ("model", "pipeline", "start"))


def test_an_unknown_part_is_refused(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["modle"])
    assert caught.value.code == 2
    assert "No such command 'modle'" in capsys.readouterr().err
