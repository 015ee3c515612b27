"""rsna-bench on small slices: what it compares is the same thing, and what it prints is right."""

from __future__ import annotations

import csv
import math
import os
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from rsna_lumbar.benchmarks.cli import main
from rsna_lumbar.benchmarks.contenders import (
    BASELINE,
    CONTENDERS,
    Contender,
    Peaks,
    ScoreSeries,
    Work,
    make_work,
)
from rsna_lumbar.benchmarks.engines import LIBRARY_OF
from rsna_lumbar.benchmarks.measure import Row, compare
from rsna_lumbar.benchmarks.report import Conditions, as_csv, as_table
from rsna_lumbar.export.checkpoint import read_checkpoint
from rsna_lumbar.export.formats import FORMATS
from rsna_lumbar.export.limits import LIMITS
from rsna_lumbar.export.random_weights import random_detector, save_checkpoint, textured_slices
from rsna_lumbar.runtime.errors import BackendError, LumbarError, UsageError
from rsna_lumbar.runtime.grading import Calibration, probabilities
from rsna_lumbar.runtime.labels import SPINAL

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """ultralytics writes its settings into a folder of the test run."""
    monkeypatch.setitem(os.environ, "YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("yolo")))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("bench")
    path = folder / "spinal.pt"
    save_checkpoint(random_detector(SPINAL, channels=1, size_px=64), path)
    return make_work(read_checkpoint(path), size_px=64, batch_size=4, threads=1, folder=folder)


SERIES = textured_slices(12, 64, seed=5)
ROUNDING = LIMITS["fp32"].peak
# Over slices, after the mean of each class. Measured: bf16 0.998, int8 0.977 (OpenVINO) and 0.964
# (ONNX Runtime); a network that does not look at its slices has 0.
LEAST_CORRELATION = 0.9


def answers(contender: Contender, work: Work) -> tuple[Peaks, Peaks]:
    """Peaks of the series (C,) and of each slice (N, C); skips where it cannot be had."""
    try:
        with contender.open(work) as score:
            return score(SERIES), np.stack([score(one[None]) for one in SERIES])
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


OTHERS = [one for one in CONTENDERS if one is not BASELINE and one.name != "ultralytics predict"]


@pytest.mark.parametrize("contender", OTHERS, ids=str)
def test_contenders_answer_as_the_baseline(
    contender: Contender, work: Work, baseline: tuple[Peaks, Peaks]
) -> None:
    """Within what a bundle of that precision may differ by."""
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
    (predict,) = (one for one in CONTENDERS if one.name == "ultralytics predict")
    found, _ = answers(predict, work)
    assert found.max() == pytest.approx(baseline[0].max(), abs=1e-4)


@pytest.mark.parametrize("error", [UsageError("no library"), BackendError("refused")])
def test_what_cannot_be_had_is_named(error: LumbarError, work: Work) -> None:
    def absent(_: Work) -> AbstractContextManager[ScoreSeries]:
        raise error

    missing = Contender("nobody's", "int8", absent)
    found = compare(work, SERIES, rounds=1, progress=lambda _: None, contenders=(BASELINE, missing))
    assert [row.contender for row in found.rows] == [BASELINE.name]
    assert found.missing == {missing: str(error)}


def test_every_format_has_a_title() -> None:
    assert set(LIBRARY_OF) == set(FORMATS)


def test_the_command_prints_a_table_and_writes_csv(tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "bench.csv"
    words = ["--sizes", "64", "--rounds", "1", "--batch-size", "2", "--series-slices", "3"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--group", "spinal", "--csv", str(target)])
    assert caught.value.code == 0
    table = capsys.readouterr().out
    rows = list(csv.DictReader(target.read_text().splitlines()))
    here = [one for one in CONTENDERS if f"{one} (" not in rows[0]["missing"]]
    assert len(here) > 4
    assert [(row["contender"], row["precision"]) for row in rows] == [
        (one.name, one.precision) for one in here
    ]
    for row in rows:
        assert row["contender"] in table
        assert float(row["slice_median_ms"]) > 0
        assert math.isfinite(float(row["ratio"]))
        assert "torch" in row["versions"]
    assert float(rows[0]["ratio"]) == 1
    ours = next(row for row in rows if row["contender"] == "score graph, ONNX Runtime")
    assert float(ours["largest_difference"]) < 1e-4


def test_a_table_worked_by_hand() -> None:
    rows = [
        Row("a", "fp32", 384, 10, 12, 300, 310, 1, 1, 1, 0),
        Row("b", "int8", 384, 4, 5, 120, 130, 2.5, 2.4, 2.6, 3e-6),
    ]
    conditions = Conditions("m", "v", "YOLOv8n", 3, 30, 16, 29, 2, 10, "64 slices", "c (no c)")
    lines = as_table(rows, conditions).splitlines()
    assert lines[0] == "384 px"
    cells = ["b", "int8", "4.00", "5.00", "120", "130", "2.50x", "2.40-2.60", "3.0e-06"]
    assert lines[3].split() == cells
    assert lines[5] == "not measured: c (no c)"
    (first, second) = csv.DictReader(as_csv(rows, conditions).splitlines())
    assert (first["contender"], second["ratio"], second["batch_size"]) == ("a", "2.5", "16")
    assert (first["precision"], second["precision"]) == ("fp32", "int8")


@pytest.mark.parametrize(
    "words", [["--sizes", "100"], ["--sizes", "x"], ["--series-slices", "3", "--batch-size", "4"]]
)
def test_wrong_sizes_are_refused(words: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "Error" in capsys.readouterr().err
