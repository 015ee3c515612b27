"""Submissions and label tables that lack groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.label_table import tidy_labels
from rsna_lumbar.runtime.core.labels import (
    CONDITIONS,
    FORAMINAL,
    GRADE_TITLES,
    GRADES,
    GROUPS,
    LOCATIONS,
    SPINAL,
    SUBARTICULAR,
    Group,
)
from rsna_lumbar.train.cli import main
from rsna_lumbar.train.dataset.prior import class_prior, prior_submission
from rsna_lumbar.train.evaluation.evaluate import evaluate_tables
from rsna_lumbar.train.evaluation.metric import score
from rsna_lumbar.train.evaluation.submission import SubmissionError

COLUMNS = ["_".join(location) for location in LOCATIONS]
STUDIES = [str(study) for study in range(12)]
NO_SCORE = "The score is the mean of the terms that are left; it is no score of the challenge's."


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A submission and labels, in which every group has severe rows."""
    rng = np.random.default_rng(8)
    truth = pd.DataFrame(rng.choice(GRADE_TITLES, (len(STUDIES), 25), p=[0.6, 0.2, 0.2]))
    truth.columns = pd.Index(COLUMNS)
    truth.insert(0, "study_id", STUDIES)
    names = [f"{study}_{column}" for study in STUDIES for column in COLUMNS]
    given = pd.DataFrame(rng.dirichlet([1, 1, 1], len(names)), columns=list(GRADES))
    given.insert(0, "row_id", names)
    return given, truth


def only(submission: pd.DataFrame, *groups: Group) -> pd.DataFrame:
    conditions = [condition for group in groups for condition in group.conditions]
    return submission[submission["row_id"].str.contains("|".join(conditions))]


def ungraded(truth: pd.DataFrame, *groups: Group) -> pd.DataFrame:
    cells = ["_".join(location) for group in groups for location in group.locations]
    return truth.assign(**dict.fromkeys(cells, ""))


def run(folder: Path, submission: pd.DataFrame, truth: pd.DataFrame, *options: str) -> int:
    submission.to_csv(folder / "submission.csv", index=False)
    truth.to_csv(folder / "train.csv", index=False)
    files = [str(folder / "submission.csv"), "--labels", str(folder / "train.csv")]
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *files, *options])
    return int(stopped.value.code or 0)


@pytest.mark.parametrize("groups", [(SPINAL,), (SUBARTICULAR,), (FORAMINAL, SPINAL)])
def test_a_partial_submission_is_scored_on_its_groups(groups: tuple[Group, ...]) -> None:
    """Every figure of the scored groups is that of the whole submission; the others are none."""
    submission, truth = tables()
    whole = evaluate_tables(submission, truth)
    found = evaluate_tables(only(submission, *groups), truth)
    assert found.groups == tuple(group for group in GROUPS if group in groups)
    assert found.unanswered == tuple(group for group in GROUPS if group not in groups)
    assert found.ungraded == ()
    for ours, theirs in ((found.submission, whole.submission), (found.prior, whole.prior)):
        for group in GROUPS:
            expected = getattr(theirs, group.name) if group in groups else None
            assert getattr(ours, group.name) == expected
        severe = theirs.any_severe_spinal if SPINAL in groups else None
        assert ours.any_severe_spinal == severe
        terms = [getattr(ours, group.name) for group in groups]
        terms += [severe] if severe is not None else []
        assert ours.score == pytest.approx(np.mean(terms), rel=1e-15)
    assert found.ratio == found.submission.score / found.prior.score
    names = [group.name for group in found.groups]
    assert list(found.diagnostics.groups) == [*names, "all"]
    for name in names:
        assert found.diagnostics.groups[name] == whole.diagnostics.groups[name]
        assert found.severe[name] == whole.severe[name]
        assert found.intervals and whole.intervals
        assert found.intervals.submission[name] == whole.intervals.submission[name]
        assert found.intervals.ratio[name] == whole.intervals.ratio[name]
    rows = sum(whole.diagnostics.groups[name].rows for name in names)
    assert found.diagnostics.groups["all"].rows == rows
    conditions = {condition for group in groups for condition in group.conditions}
    assert set(found.severe) == {*names, *conditions}
    missing = ", ".join(group.name for group in found.unanswered)
    assert found.notes[:2] == (
        f"Left out, without a row in the submission: {missing}.",
        NO_SCORE,
    )


def test_labels_without_grades_of_a_group_leave_it_out() -> None:
    submission, truth = tables()
    whole = evaluate_tables(submission, truth)
    found = evaluate_tables(submission, ungraded(truth, FORAMINAL))
    assert found.groups == (SPINAL, SUBARTICULAR)
    assert (found.unanswered, found.ungraded) == ((), (FORAMINAL,))
    assert found.submission.foraminal is None
    assert found.submission.subarticular == whole.submission.subarticular
    note = "Left out, without a grade in the label table: foraminal."
    assert found.notes[:2] == (note, NO_SCORE)


def test_both_kinds_are_told_apart() -> None:
    submission, truth = tables()
    found = evaluate_tables(only(submission, SPINAL, SUBARTICULAR), ungraded(truth, SPINAL))
    assert found.groups == (SUBARTICULAR,)
    assert (found.unanswered, found.ungraded) == ((FORAMINAL,), (SPINAL,))
    assert len(found.notes) == 4  # of each, of the score, of the number of studies


@pytest.mark.parametrize(
    ("answered", "empty", "named"),
    [
        (GROUPS, GROUPS, "spinal"),
        ((FORAMINAL,), (FORAMINAL,), "foraminal"),
        ((FORAMINAL, SUBARTICULAR), (FORAMINAL, SUBARTICULAR), "foraminal"),
    ],
)
def test_where_nothing_is_left_that_is_an_error(
    answered: tuple[Group, ...], empty: tuple[Group, ...], named: str
) -> None:
    submission, truth = tables()
    with pytest.raises(DataError, match=f"holds no graded {named} row: there is nothing to score"):
        evaluate_tables(only(submission, *answered), ungraded(truth, *empty))


def test_a_group_with_some_rows_missing_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission, truth = tables()
    partial = only(submission, FORAMINAL).iloc[3:]
    assert run(tmp_path, partial, truth) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: the submission lacks rows (")
    assert ": 3, such as 0_left_neu" in captured.err
    with pytest.raises(SubmissionError, match=r"lacks rows \(.*\): 300, such as "):
        evaluate_tables(submission.iloc[:0], truth)


def test_a_group_of_other_studies_alone_is_not_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --studies, what counts is whether these have a row of the group, and a grade."""
    submission, truth = tables()
    listed = tmp_path / "val_studies.csv"
    listed.write_text("\n".join(["study_id", *STUDIES[4:]]))
    of_others = submission["row_id"].str.contains("^[0-3]_")
    partial = submission[of_others | submission["row_id"].isin(only(submission, SPINAL)["row_id"])]
    assert run(tmp_path, partial, truth, "--studies", str(listed), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    fold = only(submission.iloc[100:], SPINAL), truth.iloc[4:]
    expected = score(*fold, groups=[SPINAL])
    assert found["groups"] == ["spinal"]
    assert (found["studies"], found["rows"], found["ignored_rows"]) == (8, 40, 100)
    assert (found["score"], found["spinal"]) == (expected.score, expected.spinal)
    prior = prior_submission(class_prior(tidy_labels(truth.iloc[4:])), STUDIES[4:])
    assert found["prior"]["score"] == score(prior, truth.iloc[4:], [SPINAL]).score
    alone = evaluate_tables(*fold).intervals
    assert alone is not None
    interval = alone.submission["spinal"]
    bounds = {"low": interval.low, "high": interval.high}
    assert found["intervals"]["submission"]["spinal"] == bounds
    truth.loc[4:, COLUMNS[:5]] = ""
    assert run(tmp_path, submission, truth, "--studies", str(listed), "--json") == 0
    assert json.loads(capsys.readouterr().out)["ungraded_groups"] == ["spinal"]


def test_json_has_null_for_what_was_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission, truth = tables()
    keys = []
    for given in (submission, only(submission, SUBARTICULAR)):
        assert run(tmp_path, given, truth, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        keys.append(
            {name: set(value) if isinstance(value, dict) else {} for name, value in found.items()}
        )
    assert keys[0] == keys[1]
    assert found["groups"] == ["subarticular"]
    assert found["unanswered_groups"] == ["spinal", "foraminal"]
    assert found["ungraded_groups"] == []
    for term in ("spinal", "foraminal", "any_severe_spinal"):
        intervals = found["intervals"]
        for place in (found, found["prior"], intervals["submission"], intervals["ratio"]):
            assert place[term] is None
        assert intervals["missing"][term] is None
    assert found["score"] == found["subarticular"]
    for figure in ("per_grade", "calibration_error", "confusion", "reliability"):
        assert [name for name, value in found[figure].items() if value is None] == [
            "spinal",
            "foraminal",
        ]
    for name in (SPINAL.name, FORAMINAL.name, *CONDITIONS[:3]):
        assert found["severe"][name] is None
    assert found["severe"]["subarticular"]["all"]["severe"] > 0
    assert found["per_level"]["l1_l2"]["spinal"] is None
    assert found["per_level"]["l1_l2"]["all"] == found["per_level"]["l1_l2"]["subarticular"]


def test_the_table_shows_the_scored_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission, truth = tables()
    assert run(tmp_path, only(submission, FORAMINAL), truth) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["Spinal", *"-----"]
    assert lines[4].split() == ["Any", "severe", "spinal", *"-----"]
    assert NO_SCORE in lines
    later = "\n".join(lines[6:])
    for word in ("Spinal", "Subarticular", "All "):
        assert word not in later
    assert max(map(len, lines)) <= 100


def test_the_any_severe_note_counts_the_terms_that_are_left() -> None:
    submission, truth = tables()
    mild = truth.replace(GRADE_TITLES[2], GRADE_TITLES[1])
    for groups, text in (
        (GROUPS, "the mean of the other three."),
        ((SPINAL, FORAMINAL), "the mean of the other two."),
        ((SPINAL,), "the spinal term."),
    ):
        notes = evaluate_tables(only(submission, *groups), mild).notes
        assert [text in note for note in notes if "any-severe" in note] == [True]
    notes = evaluate_tables(only(submission, FORAMINAL), mild).notes
    assert not any("any-severe" in note for note in notes)


def test_figures_are_of_the_scored_groups(tmp_path: Path) -> None:
    submission, truth = tables()
    folder = tmp_path / "figures"
    assert run(tmp_path, only(submission, SPINAL), truth, "--figures", str(folder)) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["confusion.png", "reliability.png"]
    for path in folder.iterdir():
        with Image.open(path) as picture:
            picture.load()


def test_the_prior_may_be_counted_on_labels_of_other_groups_too() -> None:
    submission, truth = tables()
    training = truth.iloc[:5].assign(study_id=[f"t{index}" for index in range(5)])
    found = evaluate_tables(only(submission, SPINAL), truth, training)
    prior = prior_submission(class_prior(tidy_labels(training)), STUDIES)
    assert found.prior == score(prior, truth, [SPINAL])
