"""Intervals of resampled studies against tables that are resampled and scored."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from rsna_lumbar.runtime.core.label_table import tidy_labels
from rsna_lumbar.runtime.core.labels import (
    GRADE_TITLES,
    GRADES,
    LOCATIONS,
    SPINAL,
    SUBARTICULAR,
    Group,
)
from rsna_lumbar.runtime.core.labels import GROUPS as ALL_GROUPS
from rsna_lumbar.runtime.core.metric import (
    NO_GRADE,
    GradedAnswers,
    StudySums,
    columns_of,
    quotients,
    study_sums,
)
from rsna_lumbar.train.dataset.prior import class_prior, prior_submission
from rsna_lumbar.train.evaluation.bootstrap import RESAMPLES, draws, intervals
from rsna_lumbar.train.evaluation.evaluate import evaluate_tables
from rsna_lumbar.train.evaluation.metric import score

COLUMNS = ["_".join(location) for location in LOCATIONS]
TERMS = ("spinal", "foraminal", "subarticular", "any_severe_spinal")


def drawn(seed: int, studies: int, groups: tuple[Group, ...] = ALL_GROUPS) -> GradedAnswers:
    """Grades with holes, in which every group has one, and answers that know a little of them."""
    rng = np.random.default_rng(seed)
    grade = rng.choice(3, (studies, 25), p=[0.75, 0.15, 0.1])
    likely = 0.7 * np.eye(3)[grade] + 0.3 * rng.dirichlet([1, 1, 1], grade.shape)
    grade[rng.random(grade.shape) < 0.2] = NO_GRADE
    grade[0, ::5] = 2
    names = tuple(str(study) for study in range(studies))
    return GradedAnswers(names, grade, likely, groups=groups)


def constant(answers: GradedAnswers) -> GradedAnswers:
    same = np.tile([0.5, 0.3, 0.2], (*answers.grade.shape, 1))
    return GradedAnswers(answers.studies, answers.grade, same, groups=answers.groups)


def tables(answers: GradedAnswers, chosen: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A submission and a label table of some studies; one that is chosen twice stands twice."""
    names = [f"{place}" for place in range(len(chosen))]
    words = np.array([*GRADE_TITLES, ""], object)[answers.grade[chosen]]
    truth = pd.DataFrame(words, columns=COLUMNS)
    truth.insert(0, "study_id", names)
    rows = pd.DataFrame(answers.probability[chosen].reshape(-1, 3), columns=list(GRADES))
    rows.insert(0, "row_id", [f"{name}_{column}" for name in names for column in COLUMNS])
    return rows, truth


def test_no_resample_is_no_interval_and_a_single_study_has_none() -> None:
    answers = drawn(0, 2)
    assert intervals(study_sums(answers), study_sums(constant(answers)), 0) is None
    alone = drawn(0, 1)
    found = intervals(study_sums(alone), study_sums(constant(alone)), 10)
    assert found is not None
    assert (found.resamples, found.submission, found.ratio) == (10, {}, {})


@pytest.mark.parametrize("seed", range(3))
def test_sums_of_drawn_studies_are_the_metric_of_the_table_of_these(seed: int) -> None:
    answers = drawn(seed, 7)
    sums = study_sums(answers)
    assert sums.terms == TERMS
    for draw in draws(7, 15):
        found = quotients(sums.sums[draw].sum(axis=0))
        result = score(*tables(answers, draw))
        for term, value in zip(sums.terms, found, strict=True):
            expected = getattr(result, term)
            assert np.isnan(value) if expected is None else value == pytest.approx(expected, 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_those_of_resampled_tables(seed: int) -> None:
    """Every figure of every resample by the metric, from tables; the prior as it was counted."""
    studies, resamples = 6, 40
    answers = drawn(seed, studies)
    answers.grade[1:, :5] = np.minimum(answers.grade[1:, :5], 1)  # one study has severe rows
    whole, truth = tables(answers, np.arange(studies))
    prior = class_prior(tidy_labels(truth))
    found = evaluate_tables(whole, truth, resamples=resamples).intervals
    assert found is not None
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in (*TERMS, "score")}
    for draw in draws(studies, resamples):
        rows, drawn_truth = tables(answers, draw)
        ours = score(rows, drawn_truth)
        theirs = score(prior_submission(prior, drawn_truth["study_id"]), drawn_truth)
        for name, values in figures.items():
            exists = ours.any_severe_spinal is not None or name not in ("score", TERMS[-1])
            if exists:
                values.append((getattr(ours, name), getattr(theirs, name)))
    assert list(found.submission) == list(found.ratio) == list(figures)
    assert found.missing == {name: resamples - len(values) for name, values in figures.items()}
    assert 0 < found.missing["any_severe_spinal"] == found.missing["score"] < resamples
    for name, pairs in figures.items():
        ours_of, theirs_of = np.array(pairs).T
        for values, interval in (
            (ours_of, found.submission[name]),
            (ours_of / theirs_of, found.ratio[name]),
        ):
            bounds = np.percentile(values, [2.5, 97.5])
            assert [interval.low, interval.high] == pytest.approx(bounds.tolist(), rel=1e-12)


def test_the_same_studies_are_drawn_for_both() -> None:
    """A submission that is the prior has the ratio 1 in every resample."""
    sums = study_sums(drawn(1, 30))
    found = intervals(sums, sums, 50)
    assert found is not None
    assert found.submission["score"].high > found.submission["score"].low
    for ratio in found.ratio.values():
        assert (ratio.low, ratio.high) == (1.0, 1.0)


def test_draws_are_the_same_in_every_call_and_differ_from_each_other() -> None:
    first, again = list(draws(20, 3)), list(draws(20, 3))
    np.testing.assert_array_equal(first, again)
    assert len({tuple(draw) for draw in first}) == 3
    assert all(len(draw) == 20 and set(draw) <= set(range(20)) for draw in first)


def test_the_width_is_that_of_independent_studies() -> None:
    """Against the delta method: the residual of a study is cost - term * weight. 25 rows of a
    study are alike, so that rows drawn one by one would give a fifth of the width."""
    rng = np.random.default_rng(5)
    grade = np.repeat(rng.choice(3, (500, 1), p=[0.7, 0.2, 0.1]), 25, axis=1)
    each = rng.dirichlet([2, 2, 2], (500, 1))
    answers = GradedAnswers(tuple(map(str, range(500))), grade, np.repeat(each, 25, axis=1))
    sums = study_sums(answers)
    found = intervals(sums, study_sums(constant(answers)), 2000)
    assert found is not None
    cost, weight = sums.sums[:, 2, 0], sums.sums[:, 2, 1]
    term = cost.sum() / weight.sum()
    error = np.sqrt(((cost - term * weight) ** 2).sum()) / weight.sum()
    interval = found.submission["subarticular"]
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (interval.low + interval.high) / 2 == pytest.approx(term, rel=0.02)


def test_what_does_not_exist_at_all_has_no_interval() -> None:
    answers = drawn(2, 12)
    answers.grade[:, columns_of(SPINAL)] = np.minimum(answers.grade[:, columns_of(SPINAL)], 1)
    found = intervals(study_sums(answers), study_sums(constant(answers)), 20)
    assert found is not None
    assert list(found.submission) == ["spinal", "foraminal", "subarticular", "score"]
    assert set(found.missing.values()) == {0}


def test_only_the_groups_of_the_answers_are_drawn() -> None:
    answers = drawn(3, 12, groups=(SUBARTICULAR,))
    answers.probability[:, :15] = np.nan
    found = intervals(study_sums(answers), study_sums(constant(answers)), 20)
    assert found is not None
    assert list(found.submission) == ["subarticular", "score"]
    assert found.submission["score"] == found.submission["subarticular"]


def test_two_thousand_studies_take_seconds() -> None:
    """0.2 s on a free core; scoring a thousand tables takes minutes."""
    rng = np.random.default_rng(0)
    sums = StudySums(TERMS, rng.random((2000, 4, 3)))
    start = time.process_time()
    assert intervals(sums, sums, RESAMPLES) is not None
    assert time.process_time() - start < 5
