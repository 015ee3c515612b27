"""The command's table and object."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rsna_lumbar.runtime.labels import GRADE_TITLES, GRADES, LOCATIONS
from rsna_lumbar.train.cli import main
from rsna_lumbar.train.metric import score
from rsna_lumbar.train.prior import class_prior, prior_submission
from rsna_lumbar.train.tables import tidy_labels

COLUMNS = ["_".join(location) for location in LOCATIONS]


def labels(*grades: int) -> pd.DataFrame:
    """One study per grade, all its locations of that grade."""
    rows = [[str(5 + i), *[GRADE_TITLES[g]] * 25] for i, g in enumerate(grades)]
    return pd.DataFrame(rows, columns=["study_id", *COLUMNS])


def answers(*severe: float) -> pd.DataFrame:
    """One study per number, all its rows (1 - 2 x, x, x)."""
    rows = [
        [f"{5 + i}_{column}", 1 - 2 * x, x, x] for i, x in enumerate(severe) for column in COLUMNS
    ]
    return pd.DataFrame(rows, columns=["row_id", *GRADES])


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *arguments])
    return int(stopped.value.code or 0)


def write(folder: Path, submission: pd.DataFrame, truth: pd.DataFrame) -> list[str]:
    submission.to_csv(folder / "submission.csv", index=False)
    truth.to_csv(folder / "train.csv", index=False)
    return [str(folder / "submission.csv"), "--labels", str(folder / "train.csv")]


def test_json_holds_the_terms_the_prior_and_the_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, given = labels(0, 2), answers(0.1, 0.4)
    assert run([*write(tmp_path, given, truth), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = score(given, truth)
    prior = score(prior_submission(class_prior(tidy_labels(truth)), ["5", "6"]), truth)
    assert found["score"] == pytest.approx(expected.score, rel=1e-12)
    assert found["any_severe_spinal"] == pytest.approx(expected.any_severe_spinal, rel=1e-12)
    assert found["prior"]["foraminal"] == pytest.approx(prior.foraminal, rel=1e-12)
    assert found["ratio"] == pytest.approx(expected.score / prior.score, rel=1e-12)


def test_the_prior_can_be_counted_on_other_studies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, training = labels(0, 2), labels(0, 0, 0, 1)
    training.to_csv(tmp_path / "training.csv", index=False)
    arguments = write(tmp_path, answers(0.1, 0.4), truth)
    assert run([*arguments, "--prior-labels", str(tmp_path / "training.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    prior = score(prior_submission(class_prior(tidy_labels(training)), ["5", "6"]), truth)
    assert found["prior"]["score"] == pytest.approx(prior.score, rel=1e-12)


def test_the_table_says_when_a_term_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write(tmp_path, answers(0.1, 0.2), labels(0, 1))) == 0
    output = capsys.readouterr().out
    assert "mean of the other three" in output
    assert "Subarticular" in output
    assert "2 studies" in output


def test_a_bad_submission_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write(tmp_path, answers(0.1), labels(0, 2))) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: 25 rows of the submission are missing")
    assert error.count("\n") == 1


def test_a_value_that_is_a_word_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = answers(0.1, 0.2).astype({"severe": object})
    submission.loc[0, "severe"] = "high"
    assert run(write(tmp_path, submission, labels(0, 2))) == 1
    assert "no number" in capsys.readouterr().err
