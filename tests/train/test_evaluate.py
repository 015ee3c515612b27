"""The command's table and object."""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsna_lumbar.runtime.core.label_table import tidy_labels
from rsna_lumbar.runtime.core.labels import CONDITIONS, GRADE_TITLES, GRADES, LEVELS, LOCATIONS
from rsna_lumbar.runtime.core.metric import TERMS
from rsna_lumbar.train.cli import main
from rsna_lumbar.train.dataset.prior import class_prior, prior_submission
from rsna_lumbar.train.evaluation.evaluate import evaluate, evaluate_tables
from rsna_lumbar.train.evaluation.metric import score
from rsna_lumbar.train.evaluation.report import NOT_CALIBRATED, as_table

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
    assert "the mean of the other three." in " ".join(output.split())
    assert "Subarticular" in output
    assert "2 studies" in output


def test_a_bad_submission_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write(tmp_path, answers(0.1), labels(0, 2))) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: the submission lacks rows (")
    assert "--studies): 25, such as " in error
    assert error.count("\n") == 1


def test_a_value_that_is_a_word_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = answers(0.1, 0.2).astype({"severe": object})
    submission.loc[0, "severe"] = "high"
    assert run(write(tmp_path, submission, labels(0, 2))) == 1
    assert "a value that is not a number: 1, such as " in capsys.readouterr().err


def drawn(seed: int, studies: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A submission and labels with holes, in which every group has a grade."""
    rng = np.random.default_rng(seed)
    truth = labels(*[0] * studies).astype(object)
    cells = rng.choice(["", *GRADE_TITLES], (studies, 25), p=[0.1, 0.6, 0.2, 0.1])
    truth[COLUMNS] = np.where(np.arange(25) % 5 == 0, GRADE_TITLES[1], cells)
    given = answers(*[0.0] * studies)
    given[list(GRADES)] = rng.dirichlet([0.5, 0.5, 0.5], len(given))
    return given, truth


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_files_and_tables_give_the_same_to_the_last_bit(seed: int, studies: int) -> None:
    submission, truth = drawn(seed, studies)
    expected = evaluate_tables(submission, truth)
    assert expected.submission == score(submission, truth)
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()) as shown:
        arguments = write(Path(name), submission.sample(frac=1, random_state=seed), truth)
        assert evaluate(Path(arguments[0]), Path(arguments[2])) == expected
        assert run([*arguments, "--json"]) == 0
    found = json.loads(shown.getvalue())
    for term in ("score", "spinal", "foraminal", "subarticular", "any_severe_spinal"):
        assert found[term] == getattr(expected.submission, term)
        assert found["prior"][term] == getattr(expected.prior, term)


def test_every_figure_is_the_same_whatever_the_order_of_rows() -> None:
    submission, truth = drawn(3, 5)
    expected = evaluate_tables(submission, truth)
    for seed in range(5):
        shuffled = submission.sample(frac=1, random_state=seed)
        assert evaluate_tables(shuffled, truth.sample(frac=1, random_state=seed)) == expected


def test_tables_are_not_changed() -> None:
    submission, truth = drawn(4, 3)
    training = labels(0, 1)
    before = [table.copy(deep=True) for table in (submission, truth, training)]
    evaluate_tables(submission, truth, training, studies=["5", "6"])
    for table, old in zip((submission, truth, training), before, strict=True):
        pd.testing.assert_frame_equal(table, old)


def test_json_holds_what_helps_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One study normal, one severe, told right with 0.8 and wrong with 0.2: by hand."""
    arguments = write(tmp_path, answers(0.1, 0.2), labels(0, 2))
    assert run([*arguments, "--resamples", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["studies"], found["rows"], found["ignored_rows"]) == (2, 50, 0)
    assert found["notes"] == []
    loss = (-math.log(0.8) - 4 * math.log(0.2)) / 5
    for level in ("l1_l2", "l5_s1"):
        pools = ("spinal", "foraminal", "subarticular", "all")
        assert found["per_level"][level] == pytest.approx(dict.fromkeys(pools, loss), rel=1e-12)
    assert found["confusion"]["foraminal"] == [[10, 0, 0], [0, 0, 0], [10, 0, 0]]
    assert found["per_grade"]["all"]["normal_mild"] == pytest.approx(
        {"count": 25, "loss": -math.log(0.8), "recall": 1.0, "precision": 0.5}, rel=1e-12
    )
    assert found["per_grade"]["spinal"]["moderate"] == dict.fromkeys(
        ("count", "loss", "recall", "precision")
    ) | {"count": 0}
    # Normal/Mild 0.8 that is so, 0.6 that is not; moderate never; severe 0.2 that is so.
    assert found["calibration_error"]["spinal"] == pytest.approx(
        {"normal_mild": 0.4, "moderate": 0.15, "severe": 0.45, "mean": 1 / 3}, rel=1e-12
    )
    bins = found["reliability"]["spinal"]["severe"]
    assert len(bins) == 10
    assert bins[2] == pytest.approx({"count": 5, "mean_probability": 0.2, "share": 1.0})
    assert bins[5] == {"count": 0, "mean_probability": None, "share": None}


def test_json_says_when_a_term_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*write(tmp_path, answers(0.1, 0.2), labels(0, 1)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["any_severe_spinal"] is None
    assert found["prior"]["any_severe_spinal"] is None
    terms = [found[name] for name in ("spinal", "foraminal", "subarticular")]
    assert found["score"] == pytest.approx(sum(terms) / 3, rel=1e-15)
    assert ["mean of the other three" in note for note in found["notes"]] == [True, False]


def test_the_table_shows_levels_grades_and_what_calibration_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write(tmp_path, answers(0.1, 0.4), labels(0, 2))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert NOT_CALIBRATED in lines
    assert [line.split()[0] for line in lines if line[:2] in ("L1", "L2", "L3", "L4", "L5")] == [
        "L1/L2",
        "L2/L3",
        "L3/L4",
        "L4/L5",
        "L5/S1",
    ]
    assert sum("Moderate" in line for line in lines) == 5  # four pools and a heading
    assert max(map(len, lines)) <= 100


def test_the_table_shows_intervals_and_how_they_came_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission, truth = drawn(3, 5)
    truth.loc[2, COLUMNS[0]] = GRADE_TITLES[2]
    arguments = write(tmp_path, submission, truth)
    assert run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    found = evaluate_tables(submission, truth).intervals
    assert found is not None
    for line, term in zip(lines[1:6], (*TERMS, "score"), strict=True):
        for bounds, digits in ((found.submission[term], 4), (found.ratio[term], 3)):
            assert f"  {bounds.low:.{digits}f} to {bounds.high:.{digits}f}" in line
    assert lines[8].startswith("Intervals: 1000 resamples of the studies")
    assert "With fewer than 100 studies the intervals are too narrow." in lines
    missing = found.missing["any_severe_spinal"]
    assert missing > 0
    assert (
        f"Missing in some of the 1000 resamples: any severe spinal in {missing}, score in {missing}"
        in " ".join(lines)
    )
    assert run([*arguments, "--resamples", "0"]) == 0
    output = capsys.readouterr().out
    assert "nterval" not in output and "resample" not in output


def test_json_holds_the_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submission, truth = drawn(3, 5)
    truth.loc[2, COLUMNS[0]] = GRADE_TITLES[2]
    arguments = write(tmp_path, submission, truth)
    names = {"score", *TERMS}
    for options, resamples in (([], 1000), (["--resamples", "30"], 30)):
        assert run([*arguments, *options, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["intervals"]
        expected = evaluate_tables(submission, truth, resamples=resamples).intervals
        assert expected is not None
        assert (found["confidence"], found["resamples"]) == (0.95, resamples)
        assert found["missing"] == expected.missing
        for name in names:
            for part in ("submission", "ratio"):
                bounds = getattr(expected, part)[name]
                assert found[part][name] == {"low": bounds.low, "high": bounds.high}
        assert set(found["submission"]) == set(found["ratio"]) == names
    assert run([*arguments, "--resamples", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["intervals"] is None


def test_a_single_study_has_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = write(tmp_path, answers(0.1), labels(2))
    assert run(arguments) == 0
    assert "A single study has no interval" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["intervals"]
    assert set(found["submission"].values()) == set(found["missing"].values()) == {None}


def test_severe_is_told_by_condition_and_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two severe studies, one told; one other, told rightly."""
    arguments = write(tmp_path, answers(0.4, 0.1, 0.2), labels(2, 2, 0))
    submission = pd.read_csv(arguments[0])
    submission.loc[:24, list(GRADES)] = [0.1, 0.1, 0.8]
    submission.to_csv(arguments[0], index=False)
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["severe"]
    assert set(found) == {*CONDITIONS, "spinal", "foraminal", "subarticular"}
    for name, by_level in found.items():
        sides = 2 if name in ("foraminal", "subarticular") else 1
        for level, report in by_level.items():
            rows = sides * (5 if level == "all" else 1)
            assert report == {
                "severe": 2 * rows,
                "other": rows,
                "sensitivity": 0.5,
                "specificity": 1.0,
            }
    assert run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("Severe against"))
    assert [line[:20].strip() for line in lines[start + 2 :: 3]] == [
        "Spinal",
        "Left foraminal",
        "Right foraminal",
        "Foraminal",
        "Left subarticular",
        "Right subarticular",
        "Subarticular",
    ]
    assert lines[start + 11].split() == ["Foraminal", "severe/other", *["4/2"] * 5, "20/10"]
    assert lines[start + 12].split() == ["sensitivity", *["0.500"] * 6]
    assert lines[start + 13].split() == ["specificity", *["1.000"] * 6]


def test_counts_of_two_thousand_studies_fit_a_hundred_columns() -> None:
    found = evaluate_tables(*drawn(1, 2))
    counts = {level: (921, 3079) for level in LEVELS} | {"all": (4605, 15_395)}
    many = {
        name: {
            level: replace(one, severe=counts[level][0], other=counts[level][1])
            for level, one in by_level.items()
        }
        for name, by_level in found.severe.items()
    }
    lines = as_table(replace(found, severe=many)).splitlines()
    assert any("921/3079" in line and "4605/15395" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_every_kind_of_bad_row_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = answers(0.1, 0.2)
    submission.loc[0, "severe"] = np.nan
    submission.loc[1, "severe"] = np.inf
    submission.loc[2, "severe"] = -0.1
    submission.loc[3, "severe"] = 1.5
    submission.loc[4, "severe"] = 0.2
    submission.loc[5, "row_id"] = "8_spinal_canal_stenosis_l1_l2"
    submission = pd.concat([submission, submission.iloc[[10, 11, 12, 13]]])
    assert run(write(tmp_path, submission, labels(0, 2))) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 8
    for line, text in zip(
        lines,
        (
            "the submission has rows more than once: 4, such as 5_",
            "has rows whose id is not in the label table: 1, such as 8_",
            "lacks rows (to score a fold, name its studies with --studies): 1, such as ",
            "not a number",
            "infinite",
            "negative",
            "above 1",
            "has rows that do not sum to 1: 3, such as ",
        ),
        strict=True,
    ):
        assert line.startswith("Error: ")
        assert text in line
    assert lines[0].count("5_") == 3


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\xff\x00", b"", b'a,b\n1,2,3\n1\n"', b"a\n1\n"]
)
def test_a_file_that_is_no_submission_is_one_line(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write(tmp_path, answers(0.1), labels(0))
    Path(arguments[0]).write_bytes(content)
    assert run(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1


def study_list(folder: Path, *studies: str) -> str:
    path = folder / "val_studies.csv"
    path.write_text("\n".join(["study_id", *studies, ""]))
    return str(path)


def test_a_fold_is_scored_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A submission of the fold's studies, and one of all, against the table of all."""
    listed = study_list(tmp_path, "6", "7")
    everything, truth = answers(0.1, 0.2, 0.3), labels(2, 0, 2)
    expected = score(everything.iloc[25:], truth.iloc[1:])
    found = []
    for submission in (everything.iloc[25:], everything):
        arguments = write(tmp_path, submission, truth)
        assert run([*arguments, "--studies", listed, "--resamples", "0", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [result["score"] for result in found] == [expected.score] * 2
    assert [result["studies"] for result in found] == [2, 2]
    assert [result["ignored_rows"] for result in found] == [0, 25]
    assert found[0]["notes"] == []
    assert ["25 rows" in note for note in found[1]["notes"]] == [True]
    prior = prior_submission(class_prior(tidy_labels(truth.iloc[1:])), ["6", "7"])
    assert found[0]["prior"]["score"] == score(prior, truth.iloc[1:]).score


def test_an_id_that_no_label_table_knows_is_no_other_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = study_list(tmp_path, "6")
    assert run([*write(tmp_path, answers(0.1, 0.2, 0.3), labels(2, 0)), "--studies", listed]) == 1
    assert "has rows whose id is not in the label table: 25, such as " in capsys.readouterr().err


def test_studies_without_a_label_row_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = study_list(tmp_path, "5", "9")
    assert run([*write(tmp_path, answers(0.1), labels(2)), "--studies", listed]) == 1
    error = capsys.readouterr().err
    assert "lacks 1 of the 2 studies to score, such as 9" in error
    assert error.count("\n") == 1


def test_figures_are_drawn_beside_the_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "figures"
    arguments = write(tmp_path, answers(0.1, 0.4), labels(0, 2))
    assert run([*arguments, "--json", "--figures", str(folder)]) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert captured.err.startswith("Drawn: ")
    assert sorted(path.name for path in folder.iterdir()) == ["confusion.png", "reliability.png"]
