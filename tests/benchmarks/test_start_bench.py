"""rsna-bench start on one study of a few small slices: every process runs and is accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsna_lumbar.benchmarks.harness.fresh_runs import FreshOptions
from rsna_lumbar.benchmarks.harness.median_study import SeriesSize, StudySize
from rsna_lumbar.benchmarks.harness.process_tree import Measured
from rsna_lumbar.benchmarks.harness.report import Results, as_csv, as_json, as_table
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.benchmarks.pipeline.plots import draw_start
from rsna_lumbar.benchmarks.pipeline.start_bench import BARE, OneStudy, StartFound, run_start
from rsna_lumbar.benchmarks.pipeline.start_report import make_results
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR

TINY = StudySize(
    (SeriesSize(FORAMINAL, 3, 64), SeriesSize(SPINAL, 3, 48), SeriesSize(SUBARTICULAR, 5, 40))
)
FP32, CACHED = Variant("onnxruntime", "fp32"), Variant("openvino", "fp32")
OPTIONS = FreshOptions(
    variants=(FP32, CACHED), scale="n", size_px=64, rounds=1, threads=1, distinct=1, size=TINY
)


def made_up() -> StartFound:
    """Walls of 3 and 5 s, of which 2 and 3 s are inference."""
    runs = [Measured(wall, 1.0, 100.0) for wall in (3.0, 5.0)]
    return StartFound(
        {"python -c pass": runs}, {OneStudy(FP32, False): runs}, {FP32: np.array([2.0, 3.0])}
    )


def test_overhead_is_wall_less_inference_of_the_same_round() -> None:
    results = make_results(OPTIONS, made_up(), "rsna-bench start")
    (row,) = results.blocks[1].rows
    assert (row["overhead_s"].low, row["overhead_s"].high) == (1.0, 2.0)
    assert (row["overhead_s"].median, row["met"]) == (1.5, True)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, bench_work: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("yolo")))
        found = run_start(OPTIONS, bench_work, report=lambda _: None)
        yield make_results(OPTIONS, found, "rsna-bench start --scale n")


def test_every_start_is_a_row(results: Results) -> None:
    bare, studies = (one.rows for one in results.blocks)
    assert [row["contender"] for row in bare] == list(BARE)
    assert [row["contender"] for row in studies] == [
        "one study, onnxruntime:fp32",
        "one study, openvino:fp32, compiled models cached",
        "one study, openvino:fp32, nothing compiled yet",
    ]
    for row in (*bare, *studies):
        assert row["wall_s"].median > 0


def test_what_is_over_at_once_has_no_peak(results: Results) -> None:
    rows = {row["contender"]: row for one in results.blocks for row in one.rows}
    assert rows["python -c pass"]["peak_mb"] is None
    demo = rows["rsna-run --demo"]["peak_mb"]
    assert demo is None or demo > 50


def test_files_hold_everything(results: Results, tmp_path: Path) -> None:
    content = json.loads(as_json(results))
    assert content["part"] == "start"
    assert {"machine", "versions", "threads", "rounds"} <= set(content["conditions"])
    assert len(as_csv(results).splitlines()) == 1 + len(BARE) + 3
    assert "overhead s (range)" in as_table(results)
    draw_start(results, tmp_path / "start.png")
    assert (tmp_path / "start.png").read_bytes().startswith(b"\x89PNG")
