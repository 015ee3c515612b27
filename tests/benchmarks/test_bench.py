"""rsna-bench on small slices: what it compares is the same thing, and what it prints is right."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest

from rsna_lumbar.benchmarks.cli import main
from rsna_lumbar.benchmarks.contenders import BASELINE, CONTENDERS, OURS, Work
from rsna_lumbar.benchmarks.measure import Row
from rsna_lumbar.benchmarks.report import Conditions, as_csv, as_table
from rsna_lumbar.export.checkpoint import read_checkpoint
from rsna_lumbar.export.random_weights import random_detector, save_checkpoint, textured_slices
from rsna_lumbar.runtime.labels import SPINAL

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """ultralytics writes its settings into a folder of the test run."""
    monkeypatch.setitem(os.environ, "YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("yolo")))


def test_every_contender_answers_as_the_baseline(tmp_path: Path) -> None:
    """All but ``predict``, which keeps one class an anchor, to float32 rounding."""
    path = tmp_path / "spinal.pt"
    save_checkpoint(random_detector(SPINAL, channels=1), path)
    work = Work(read_checkpoint(path), 64, 4, 2, tmp_path)
    series = textured_slices(6, 64, seed=5)
    answers = {}
    for name, contender in CONTENDERS.items():
        with contender(work) as score:
            answers[name] = score(series)
    baseline = answers.pop(BASELINE)
    assert np.ptp(baseline) > 0.05
    predicted = answers.pop("ultralytics predict")
    assert predicted.max() == pytest.approx(baseline.max(), abs=1e-4)
    assert set(answers) == {
        "PyTorch forward, batch norms fused",
        "ultralytics ONNX, ONNX Runtime",
        OURS,
    }
    for peaks in answers.values():
        np.testing.assert_allclose(peaks, baseline, rtol=0, atol=1e-5)


def test_the_command_prints_a_table_and_writes_csv(tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "bench.csv"
    words = ["--sizes", "64", "--rounds", "1", "--batch-size", "2", "--series-slices", "3"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--group", "spinal", "--csv", str(target)])
    assert caught.value.code == 0
    table = capsys.readouterr().out
    rows = list(csv.DictReader(target.read_text().splitlines()))
    assert [row["contender"] for row in rows] == list(CONTENDERS)
    for row in rows:
        assert row["contender"] in table
        assert float(row["slice_median_ms"]) > 0
        assert math.isfinite(float(row["ratio"]))
        assert "torch" in row["versions"]
    assert float(rows[0]["ratio"]) == 1
    assert float(rows[-1]["largest_difference"]) < 1e-4


def test_a_table_worked_by_hand() -> None:
    rows = [
        Row("a", 384, 10, 12, 300, 310, 1, 1, 1, 0),
        Row("b", 384, 4, 5, 120, 130, 2.5, 2.4, 2.6, 3e-6),
    ]
    conditions = Conditions("m", "v", "YOLOv8n", 3, 30, 16, 29, "float32", 2, 10)
    lines = as_table(rows, conditions).splitlines()
    assert lines[0] == "384 px"
    assert lines[3].split() == ["b", "4.00", "5.00", "120", "130", "2.50x", "2.40-2.60", "3.0e-06"]
    (first, second) = csv.DictReader(as_csv(rows, conditions).splitlines())
    assert (first["contender"], second["ratio"], second["batch_size"]) == ("a", "2.5", "16")


@pytest.mark.parametrize(
    "words", [["--sizes", "100"], ["--sizes", "x"], ["--series-slices", "3", "--batch-size", "4"]]
)
def test_wrong_sizes_are_refused(words: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "Error" in capsys.readouterr().err
