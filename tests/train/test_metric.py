"""The metric against a slow implementation written from its definition, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.labels import GRADE_TITLES, GRADES, LOCATIONS
from rsna_lumbar.train.metric import MetricResult, score
from rsna_lumbar.train.prior import class_prior, prior_submission
from rsna_lumbar.train.tables import tidy_labels

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


def slow_score(grades: Grades, rows: np.ndarray) -> list[float | None]:
    """[score, spinal, foraminal, subarticular, any severe] from the definition in words."""
    epsilon = 2.0**-52  # of float64

    def loss_of(probability: float) -> float:
        return -math.log(min(max(probability, epsilon), 1 - epsilon))

    terms: list[float | None] = []
    for places in (SPINAL, FORAMINAL, SUBARTICULAR):
        total = weight = 0.0
        for study, row in zip(grades, rows, strict=True):
            for place in places:
                grade = study[place]
                if grade is not None:
                    total += 2**grade * loss_of(row[place][grade])
                    weight += 2**grade
        terms.append(total / weight)
    total = weight = 0.0
    severe_seen = False
    for study, row in zip(grades, rows, strict=True):
        known = [grade for place in SPINAL if (grade := study[place]) is not None]
        if known:
            answer = max(row[place][2] for place in SPINAL)
            is_severe = 2 in known
            severe_seen = severe_seen or is_severe
            total += 2 ** max(known) * loss_of(answer if is_severe else 1 - answer)
            weight += 2 ** max(known)
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


@settings(max_examples=60, deadline=None)
@given(cases())
def test_agrees_with_the_slow_implementation(
    case: tuple[list[list[int | None]], np.ndarray],
) -> None:
    grades, rows = case
    labels = label_table(grades)
    found = as_list(score(submission_of(labels, rows), labels))
    for ours, theirs in zip(found, slow_score(grades, rows), strict=True):
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


def test_shuffled_rows_score_the_same_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    labels = label_table(rng.integers(0, 3, (6, 25)).tolist())
    table = submission_of(labels, rng.dirichlet([1, 1, 1], (6, 25)))
    shuffled = table.sample(frac=1, random_state=2)
    assert list(shuffled.index) != list(table.index)
    expected = score(table, labels)
    assert score(shuffled, labels) == expected
    assert score(shuffled.reset_index(drop=True), labels.iloc[::-1]) == expected


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


def bad(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A submission with one fault."""
    labels = label_table([[0] * 25, [2] * 25])
    table = uniform(labels)
    match name:
        case "missing":
            table = table.drop(index=3)
        case "twice":
            table = pd.concat([table, table.iloc[[3]]])
        case "no labelled study":
            table.loc[3, "row_id"] = "5_spinal_canal_stenosis_l1_l2"
        case "no number":
            table.loc[3, "severe"] = np.nan
        case "negative":
            table.loc[3, list(GRADES)] = [-0.5, 1.0, 0.5]
        case "sum to 1":
            table.loc[3, "severe"] = 0.5
        case "lacks the column severe":
            table = table.drop(columns="severe")
    return table, labels


@pytest.mark.parametrize(
    "fault",
    [
        "missing",
        "twice",
        "no labelled study",
        "no number",
        "negative",
        "sum to 1",
        "lacks the column severe",
    ],
)
def test_bad_rows_are_refused_by_name(fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        score(*bad(fault))


def test_a_group_without_grades_cannot_be_scored() -> None:
    labels = label_table([[0] * 15 + [None] * 10])
    with pytest.raises(DataError, match="no graded subarticular row"):
        score(uniform(labels), labels)


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
