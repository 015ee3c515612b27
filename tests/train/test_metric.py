"""The metric against a slow implementation written from its definition, row by row."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.label_table import tidy_labels
from rsna_lumbar.runtime.core.labels import GRADE_TITLES, GRADES, GROUPS, LOCATIONS
from rsna_lumbar.runtime.core.metric import MetricResult
from rsna_lumbar.train.dataset.prior import class_prior, prior_submission
from rsna_lumbar.train.evaluation.metric import score

COLUMNS = ["_".join(location) for location in LOCATIONS]
Grades = Sequence[Sequence[int | None]]  # (studies, 25)

SPINAL, FORAMINAL, SUBARTICULAR = range(5), range(5, 15), range(15, 25)


def label_table(grades: Grades) -> pd.DataFrame:
    """(studies, 25) grades -> the layout of train.csv."""
    words = [[None if g is None else GRADE_TITLES[g] for g in study] for study in grades]
    table = pd.DataFrame(words, columns=COLUMNS, dtype=object)
    table.insert(0, "study_id", [1000 + 7 * index for index in range(len(grades))])
    return table


def submission_of(labels: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """(studies, 25, 3) probabilities -> a submission."""
    names = [f"{study}_{column}" for study in labels["study_id"] for column in COLUMNS]
    table = pd.DataFrame(rows.reshape(-1, 3), columns=list(GRADES))
    table.insert(0, "row_id", names)
    return table


def uniform(labels: pd.DataFrame) -> pd.DataFrame:
    return submission_of(labels, np.full((len(labels), 25, 3), 1 / 3))


def slow_score(
    labels: dict[str, dict[str, str]], answers: dict[str, list[float]], epsilon: float
) -> list[float | None]:
    """[score, spinal, foraminal, subarticular, any severe], read off the definition row by row.

    Args:
        labels: study -> column of train.csv -> word, '' where there is none.
        answers: row id -> three probabilities.
        epsilon: of the dtype that the answers were given in.
    """
    place = {"Normal/Mild": 0, "Moderate": 1, "Severe": 2}
    weight_of = {"Normal/Mild": 1, "Moderate": 2, "Severe": 4}

    def loss_of(probability: float) -> float:
        return -math.log(min(max(probability, epsilon), 1 - epsilon))

    terms: list[float | None] = []
    for group in ("spinal", "foraminal", "subarticular"):
        total = weight = 0.0
        for study, cells in labels.items():
            for column, word in cells.items():
                if group in column and word != "":
                    total += weight_of[word] * loss_of(answers[f"{study}_{column}"][place[word]])
                    weight += weight_of[word]
        terms.append(total / weight)
    total = weight = 0.0
    severe_seen = False
    for study, cells in labels.items():
        spinal = [column for column in cells if "spinal" in column]
        words = [cells[column] for column in spinal if cells[column] != ""]
        if words:
            largest = max(answers[f"{study}_{column}"][2] for column in spinal)
            heaviest = max(weight_of[word] for word in words)
            is_severe = "Severe" in words
            severe_seen = severe_seen or is_severe
            total += heaviest * loss_of(largest if is_severe else 1 - largest)
            weight += heaviest
    terms.append(total / weight if severe_seen else None)
    existing = [term for term in terms if term is not None]
    return [sum(existing) / len(existing), *terms]


def as_list(result: MetricResult) -> list[float | None]:
    return [
        result.score,
        result.spinal,
        result.foraminal,
        result.subarticular,
        result.any_severe_spinal,
    ]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int | None]], np.ndarray]:
    """Label tables with holes (never a whole group empty) and rows with zeros and ones."""
    studies = draw(st.integers(1, 4))
    cell = st.sampled_from([0, 0, 0, 1, 2, None])
    grades: list[list[int | None]] = [
        draw(st.lists(cell, min_size=25, max_size=25)) for _ in range(studies)
    ]
    for places in (SPINAL, FORAMINAL, SUBARTICULAR):
        if all(study[place] is None for study in grades for place in places):
            grades[0][places[0]] = 0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.dirichlet([0.3, 0.3, 0.3], (studies, 25))
    rows[rng.random((studies, 25)) < 0.1] = [0.0, 1.0, 0.0]
    return grades, rows


@settings(max_examples=80, deadline=None)
@given(cases(), st.sampled_from([("float64", 2.0**-52), ("float32", 2.0**-23)]))
def test_agrees_with_the_slow_implementation(
    case: tuple[list[list[int | None]], np.ndarray], precision: tuple[str, float]
) -> None:
    grades, rows = case
    dtype, epsilon = precision
    labels = label_table(grades)
    submission = submission_of(labels, rows.astype(dtype))
    assert set(submission.dtypes[1:].astype(str)) == {dtype}
    cells = {
        str(row["study_id"]): {column: row[column] or "" for column in COLUMNS}
        for row in labels.astype(object).to_dict("records")
    }
    answers = {name: [float(x) for x in three] for name, *three in submission.to_numpy()}
    found = as_list(score(submission, labels))
    for ours, theirs in zip(found, slow_score(cells, answers, epsilon), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours == pytest.approx(theirs, rel=1e-12)


def test_uniform_scores_as_the_definition_gives() -> None:
    """Two studies, one with a severe level: by hand.

    Each of the three pooled losses is log 3 whatever the labels. Any severe: the answer is 1/3
    for both; the severe study weighs 4 and costs log 3, the other weighs 1 and costs log 1.5.
    """
    labels = label_table([[2] + [0] * 24, [0] * 25])
    result = score(uniform(labels), labels)
    any_severe = (4 * math.log(3) + math.log(1.5)) / 5
    for pooled in (result.spinal, result.foraminal, result.subarticular):
        assert pooled == pytest.approx(math.log(3), rel=1e-14)
    assert result.any_severe_spinal == pytest.approx(any_severe, rel=1e-14)
    assert result.score == pytest.approx((3 * math.log(3) + any_severe) / 4, rel=1e-14)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=25, max_size=25), min_size=1, max_size=6))
def test_uniform_scores_so_on_any_complete_label_table(grades: list[list[int]]) -> None:
    """Worst spinal grade 0, 1, 2 of a study: weight 1, 2, 4; a severe one costs log 3, else 1.5."""
    labels = label_table(grades)
    worst = [max(study[:5]) for study in grades]
    costs = [4 * math.log(3) if grade == 2 else (1 + grade) * math.log(1.5) for grade in worst]
    any_severe = sum(costs) / sum((1, 2, 4)[grade] for grade in worst) if 2 in worst else None
    terms = [math.log(3)] * 3 + ([] if any_severe is None else [any_severe])
    expected = [sum(terms) / len(terms), *[math.log(3)] * 3]
    found = as_list(score(uniform(labels), labels))
    assert found[:4] == pytest.approx(expected, rel=1e-14)
    assert found[4] == (None if any_severe is None else pytest.approx(any_severe, rel=1e-14))


def test_severe_counts_four_times() -> None:
    """One spinal row severe (weight 4), four normal (1): losses log 4 and log 2."""
    labels = label_table([[2] + [0] * 24])
    rows = np.tile([0.5, 0.25, 0.25], (1, 25, 1))
    result = score(submission_of(labels, rows), labels)
    assert result.spinal == pytest.approx((4 * math.log(4) + 4 * math.log(2)) / 8, rel=1e-14)
    assert result.foraminal == pytest.approx(math.log(2), rel=1e-14)


def test_no_severe_study_means_no_any_severe_term() -> None:
    labels = label_table([[0] * 25, [1] * 25])
    result = score(uniform(labels), labels)
    assert result.any_severe_spinal is None
    assert result.score == pytest.approx(math.log(3), rel=1e-14)


@settings(max_examples=40, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_shuffled_rows_score_the_same_to_the_last_bit(
    case: tuple[list[list[int | None]], np.ndarray], chance: random.Random
) -> None:
    grades, rows = case
    labels = label_table(grades)
    table = submission_of(labels, rows)
    expected = score(table, labels)
    answers = table.iloc[chance.sample(range(len(table)), len(table))]
    truth = labels.iloc[chance.sample(range(len(labels)), len(labels))]
    assert score(answers, labels) == expected
    assert score(table, truth) == expected
    assert score(answers.reset_index(drop=True), truth.reset_index(drop=True)) == expected


def test_inputs_are_not_changed() -> None:
    labels = label_table([[2] + [None] + [0] * 23])
    table = submission_of(labels, np.tile([1.0, 0.0, 0.0], (1, 25, 1)))
    before = table.copy(deep=True), labels.copy(deep=True)
    score(table, labels)
    pd.testing.assert_frame_equal(table, before[0])
    pd.testing.assert_frame_equal(labels, before[1])


@pytest.mark.parametrize(("dtype", "epsilon"), [("float64", 2.0**-52), ("float32", 2.0**-23)])
def test_a_certain_mistake_costs_the_epsilon_of_the_dtype(dtype: str, epsilon: float) -> None:
    labels = label_table([[1] * 25])
    table = submission_of(labels, np.tile([1.0, 0.0, 0.0], (1, 25, 1)))
    result = score(table.astype(dict.fromkeys(GRADES, dtype)), labels)
    assert result.foraminal == pytest.approx(-math.log(epsilon), rel=1e-12)


def test_rows_must_be_there_for_locations_without_a_grade() -> None:
    labels = label_table([[0, None] + [0] * 23])
    with pytest.raises(DataError, match=r"submission lacks rows \(.*\): 1, such as "):
        score(uniform(labels).drop(index=1), labels)


def test_a_label_table_without_studies_cannot_be_scored() -> None:
    labels = label_table([[0] * 25])
    with pytest.raises(DataError, match="no graded spinal row"):
        score(uniform(labels).iloc[:0], labels.iloc[:0])


def test_a_group_without_grades_cannot_be_scored() -> None:
    labels = label_table([[0] * 15 + [None] * 10])
    with pytest.raises(DataError, match="no graded subarticular row"):
        score(uniform(labels), labels)


def test_groups_that_are_not_scored_need_no_row() -> None:
    labels = label_table([[2] + [0] * 24, [1] * 25])
    rows = np.random.default_rng(2).dirichlet([1, 1, 1], (2, 25))
    table = submission_of(labels, rows)
    whole = score(table, labels)
    found = score(table.iloc[[*range(5), *range(25, 30)]], labels, [GROUPS[0]])
    assert as_list(found)[1:] == [whole.spinal, None, None, whole.any_severe_spinal]
    assert found.score == pytest.approx((found.spinal + found.any_severe_spinal) / 2, rel=1e-15)
    with pytest.raises(DataError, match="submission holds no foraminal row"):
        score(table.iloc[[*range(5), *range(25, 30)]], labels)


def test_prior_is_weight_times_frequency() -> None:
    """Three normal (x1) and one severe (x4) of four cases: 3 / 7, 0, 4 / 7 without smoothing."""
    labels = tidy_labels(label_table([[0] * 25, [0] * 25, [0] * 25, [2] * 25]))
    np.testing.assert_allclose(
        class_prior(labels, smoothing=0.0), np.tile([3 / 7, 0, 4 / 7], (25, 1))
    )
    np.testing.assert_allclose(class_prior(labels)[0], np.array([4, 2, 8]) / 14)


def test_prior_is_the_best_constant_answer() -> None:
    rng = np.random.default_rng(3)
    labels = label_table(rng.choice(3, (40, 25), p=[0.7, 0.2, 0.1]).tolist())
    prior = class_prior(tidy_labels(labels), smoothing=0.0)
    studies = labels["study_id"].astype(str)
    best = score(prior_submission(prior, studies), labels)
    for _ in range(20):
        other = prior * np.exp(rng.normal(0, 0.1, prior.shape))
        other /= other.sum(axis=1, keepdims=True)
        worse = score(prior_submission(other, studies), labels)
        assert worse.foraminal > best.foraminal
        assert worse.subarticular > best.subarticular
