"""rsna-bench pipeline on studies of a few small slices: both ways run, and the figures add up."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import write_clinical_slice

from rsna_lumbar.benchmarks.harness import process_tree
from rsna_lumbar.benchmarks.harness.fresh_runs import METHOD, Contender, FreshRun, quiet_environment
from rsna_lumbar.benchmarks.harness.median_study import SeriesSize, StudySize
from rsna_lumbar.benchmarks.harness.method import predicted_peaks, read_series, submission_of
from rsna_lumbar.benchmarks.harness.process_tree import Measured, run_measured
from rsna_lumbar.benchmarks.harness.report import Results, as_csv, as_json, as_table
from rsna_lumbar.benchmarks.harness.variants import Variant, read_variants
from rsna_lumbar.benchmarks.pipeline.agreement import agreement
from rsna_lumbar.benchmarks.pipeline.bench import (
    PREDICT,
    PipelineFound,
    PipelineOptions,
    run_pipeline,
)
from rsna_lumbar.benchmarks.pipeline.plots import draw_pipeline
from rsna_lumbar.benchmarks.pipeline.report import make_results
from rsna_lumbar.export.checkpoints.synthetic import (
    random_detector,
    save_checkpoint,
    textured_slices,
)
from rsna_lumbar.runtime.core.errors import LumbarError, UsageError
from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, SPINAL, SUBARTICULAR

SIZE_PX = 64
FP32 = Variant("onnxruntime", "fp32")
TINY = StudySize(
    (SeriesSize(FORAMINAL, 3, 64), SeriesSize(SPINAL, 3, 48), SeriesSize(SUBARTICULAR, 5, 40))
)
OPTIONS = PipelineOptions(
    variants=(FP32,),
    studies=(1,),
    method_studies=1,
    stress_studies=2,
    scale="n",
    size_px=SIZE_PX,
    rounds=1,
    threads=1,
    workers=1,
    distinct=1,
    size=TINY,
)


@pytest.fixture(autouse=True, scope="module")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """ultralytics writes its settings into a folder of the test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("yolo")))
        yield


# Variants


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("openvino:bf16", "--backend openvino --precision bf16 --device cpu"),
        ("onnxruntime:fp32:all", "--backend onnxruntime --precision fp32 --device cpu"),
        (
            " openvino:int8:relevant",
            "--backend openvino --precision int8 --device cpu --slices relevant",
        ),
    ],
)
def test_a_variant_is_options_of_rsna_run(text: str, options: str) -> None:
    (variant,) = read_variants(text)
    assert " ".join(variant.options) == options
    assert read_variants(str(variant)) == (variant,)


@pytest.mark.parametrize("text", ["", "openvino", "a:b:c:d", "openvino:", "a:b,"])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not BACKEND:PRECISION"):
        read_variants(text)


# The method's own way


def test_the_method_maps_lowest_to_0_and_highest_to_255(tmp_path: Path) -> None:
    pixels = [np.array([[0, 500], [1000, 250]], np.uint16), np.full((2, 2), 7, np.uint16)]
    for number, image in zip((10, 9), pixels, strict=True):
        write_clinical_slice(tmp_path / f"{number}.dcm", image)
    constant, ramp = read_series(tmp_path)  # 9 before 10
    assert (ramp[:, :, 0].tolist(), ramp.shape) == ([[0, 127], [255, 63]], (2, 2, 3))
    assert constant.max() == 0


def test_peaks_become_rows_by_maximum_and_division() -> None:
    names = [f"spinal_canal_stenosis_l1_l2_{g}" for g in ("normal_mild", "moderate", "severe")]
    none = [name.replace("l1_l2", "l5_s1") for name in names]
    first, second = (0.2, 0.1, 0.0), (0.1, 0.3, 0.3)  # two series: maxima 0.2, 0.3, 0.3
    found = [
        *(("7", name, peak) for name, peak in zip(names, first, strict=True)),
        *(("7", name, peak) for name, peak in zip(names, second, strict=True)),
        *(("7", name, 0.0) for name in none),
    ]
    rows = submission_of(found)
    assert list(rows["row_id"]) == [f"7_spinal_canal_stenosis_{x}" for x in ("l1_l2", "l5_s1")]
    grades = rows[["normal_mild", "moderate", "severe"]].to_numpy()
    np.testing.assert_allclose(grades, [[0.25, 0.375, 0.375], [1 / 3, 1 / 3, 1 / 3]])


def test_predict_keeps_the_best_class_of_each_anchor(tmp_path: Path) -> None:
    """By hand: the network's scores, of each anchor the best class alone, the maximum of each."""
    import torch
    from ultralytics.models import YOLO

    path = tmp_path / "spinal.pt"
    save_checkpoint(random_detector(SPINAL, size_px=SIZE_PX), path, size_px=SIZE_PX)
    model: Any = YOLO(path)
    slices = textured_slices(3, SIZE_PX, seed=4)
    images = [np.repeat(one[:, :, None], 3, axis=2) for one in slices]
    found, boxes = predicted_peaks(model, images, size_px=SIZE_PX)
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        network = YOLO(path).model.float().eval()
        scores = network(batch)[0][:, 4:].permute(0, 2, 1).reshape(-1, 15)  # (anchors, C)
    best = torch.where(scores == scores.amax(dim=1, keepdim=True), scores, 0).amax(dim=0)
    expected = np.where(best.numpy() > 1e-3, best.numpy(), 0)
    assert list(found) == list(SPINAL.classes)
    assert np.count_nonzero(expected) > 1 and boxes >= np.count_nonzero(expected)
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-5)


# Processes


def test_memory_of_a_grandchild_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_tree, "LARGEST_SHARE", 0.5)  # enough looks, also where they cost
    child = "import time; held = bytearray(150_000_000); time.sleep(2)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    bare, with_child = (
        run_measured([sys.executable, "-c", text], folder=tmp_path, environment=dict(os.environ))
        for text in ("import subprocess, time; time.sleep(2)", program)
    )
    assert bare.peak_mb is not None and with_child.peak_mb is not None
    assert with_child.peak_mb - bare.peak_mb > 150
    assert bare.cpu_s > 0


def test_a_process_too_short_to_be_watched_has_no_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_tree, "INTERVAL_S", 60.0)
    command = [sys.executable, "-c", "pass"]
    found = run_measured(command, folder=tmp_path, environment=dict(os.environ))
    assert found.peak_mb is None


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(LumbarError, match=r"ended with 3: .*no such luck"):
        run_measured(
            [sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"],
            folder=tmp_path,
            environment=dict(os.environ),
        )


def test_a_sign_is_timed_where_a_terminal_is_talked_to(tmp_path: Path) -> None:
    program = (
        "import sys, time; time.sleep(0.3); print('bar' if sys.stdout.isatty() else 'none');"
        "time.sleep(2)"
    )
    command = [sys.executable, "-c", program]
    found = run_measured(
        command, folder=tmp_path, environment=dict(os.environ), sign=re.compile(rb"bar")
    )
    assert found.sign_s is not None
    assert 0.3 < found.sign_s < found.wall_s
    assert run_measured(command, folder=tmp_path, environment=dict(os.environ)).sign_s is None


def test_thread_counts_of_the_environment_are_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    environment = quiet_environment(tmp_path)
    assert "OMP_NUM_THREADS" not in environment
    assert environment["XDG_CACHE_HOME"] == str(tmp_path)


# Rows


def test_agreement_is_the_largest_difference_by_row() -> None:
    reference = {"a": np.array([0.5, 0.3, 0.2]), "b": np.array([0.1, 0.1, 0.8])}
    rows = {"b": np.array([0.1, 0.5, 0.4]), "a": np.array([0.5, 0.3, 0.2]), "c": np.ones(3)}
    found = agreement(rows, reference)
    assert found.largest_difference == pytest.approx(0.4)
    assert found.mean_difference == pytest.approx(0.8 / 6)
    assert (found.changed_rows, found.rows) == (1, 2)
    with pytest.raises(KeyError):
        agreement({"a": rows["a"]}, reference)


def made_up(walls: dict[int, dict[Contender, Sequence[float]]], peak_mb: int) -> PipelineFound:
    runs = {
        count: {
            contender: [
                FreshRun(
                    Measured(wall, wall, peak_mb * (1 + (count == 200) / 4)),
                    1.0,
                    {"decode": 1, "predict": wall - 6, "rows": 0, "import": 3, "load": 2},
                )
                for wall in some
            ]
            for contender, some in of_count.items()
        }
        for count, of_count in walls.items()
    }
    return PipelineFound(runs=runs, stage_studies=20, compressed=0.6)


def made_up_results(found: PipelineFound) -> Results:
    options = replace(OPTIONS, studies=(20,), method_studies=20, stress_studies=200)
    return make_results(options, found, "rsna-bench pipeline")


def test_speed_up_is_by_round_and_nothing_where_the_method_was_not_run() -> None:
    walls: dict[int, dict[Contender, Sequence[float]]] = {
        20: {METHOD: (200.0, 220.0, 180.0), FP32: (100.0, 55.0, 60.0)},
        200: {FP32: (500.0,)},
    }
    results = made_up_results(made_up(walls, 100))
    _, ours = block(results, "20 studies, each run a fresh process")
    assert (ours["ratio"].median, ours["ratio"].low, ours["ratio"].high) == (3.0, 2.0, 4.0)
    assert ours["s_per_study"] == 3.0
    (longer,) = block(results, "200 studies, each run a fresh process")
    assert longer["ratio"] is None


def test_longer_runs_are_held_to_time_and_memory() -> None:
    walls: dict[int, dict[Contender, Sequence[float]]] = {
        20: {METHOD: (200.0,), FP32: (50.0,)},
        200: {FP32: (500.0,)},
    }
    (row,) = block(made_up_results(made_up(walls, 100)), "200 studies over 20")
    assert (row["time_ratio"], row["most_time"]) == (10.0, pytest.approx(10.5))
    assert (row["memory_ratio"], row["met"]) == (1.25, False)


# All of it


@pytest.fixture(scope="module")
def by_block(bench_work: Path) -> list[Results]:
    """What is written after each block."""
    return [
        make_results(OPTIONS, found, "rsna-bench pipeline --scale n")
        for found in run_pipeline(OPTIONS, bench_work, report=lambda _: None)
    ]


@pytest.fixture(scope="module")
def results(by_block: list[Results]) -> Results:
    return by_block[-1]


def test_each_block_is_there_to_be_written_when_it_is_done(
    by_block: list[Results], tmp_path: Path
) -> None:
    titles = [[one.title for one in results.blocks] for results in by_block]
    runs = [f"{n}, each run a fresh process" for n in ("1 study", "2 studies")]
    stress, rows = "2 studies over 1", "Rows of 1 study against PyTorch"
    stages = "1 study, stages apart in one process"
    assert titles == [
        runs[:1],
        [*runs, stress],
        [*runs, stages, stress],
        [*runs, stages, rows, stress],
    ]
    draw_pipeline(by_block[0], tmp_path / "begun.png")
    assert as_table(by_block[0]).count("fresh process") > 1


def test_our_rows_are_those_of_the_forward_pass(results: Results) -> None:
    rows = {row["contender"]: row for row in block(results, "Rows of 1 study against PyTorch")}
    assert list(rows) == [PREDICT, METHOD, str(FP32)]
    assert rows[str(FP32)]["rows"] == sum(len(group.locations) for group in GROUPS)
    assert rows[str(FP32)]["largest_difference"] <= 1e-4
    assert rows[PREDICT]["largest_difference"] > 1e-3  # it cannot see every class


def test_every_run_took_its_time(results: Results) -> None:
    method, ours = block(results, "1 study, each run a fresh process")
    assert 0 < ours["first_row_s"] < ours["wall_s"].median
    assert method["ratio"].median == 1.0
    for row in (method, ours):
        assert row["cpu_s"] > 0.1
        assert row["peak_mb"] is None or row["peak_mb"] > 30


def test_stages_are_timed_apart(results: Results) -> None:
    method, ours = block(results, "1 study, stages apart in one process")
    assert method["infer_s"].median > 0
    assert min(ours[f"{name}_s"].median for name in ("walk", "decode", "preprocess", "infer")) > 0
    assert ours["infer_ms_per_slice"] == pytest.approx(1e3 * ours["infer_s"].median / TINY.slices)


def test_files_hold_everything(results: Results, tmp_path: Path) -> None:
    content = json.loads(as_json(results))
    assert content["part"] == "pipeline"
    assert [one["title"] for one in content["blocks"]] == [one.title for one in results.blocks]
    wall = content["blocks"][0]["rows"][0]["wall_s"]
    assert set(wall) == {"median", "p95", "p99", "low", "high"}
    assert all(math.isfinite(value) for value in wall.values())
    assert {"machine", "versions", "threads", "rounds", "batch size"} <= set(content["conditions"])
    lines = as_csv(results).splitlines()
    assert len(lines) == 1 + sum(len(one.rows) for one in results.blocks)
    draw_pipeline(results, tmp_path / "pipeline.png")
    assert (tmp_path / "pipeline.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_has_every_block_under_its_headings(results: Results) -> None:
    table = as_table(results)
    for one in results.blocks:
        assert table.count(one.title) == 1
    for heading in ("speed-up", "decode only", "max diff", "peak memory"):
        assert heading in table
    assert table.startswith("$ rsna-bench pipeline --scale n\n\n1 study, each run a fresh process")


def block(results: Results, title: str) -> Sequence[Any]:
    (found,) = (one.rows for one in results.blocks if one.title == title)
    return found
