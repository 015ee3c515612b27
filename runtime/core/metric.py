"""The challenge's metric: the mean of four weighted log losses.

    loss(rows)  = sum over rows of w_i * -log p_i[grade_i]  /  sum of w_i,  w = 1, 2, 4 by grade
    spinal, foraminal, subarticular = loss(graded rows of the group, levels and sides pooled)
    any severe spinal: one binary row per study with a graded spinal row;
        label  y = 1 where any of its graded spinal rows is severe
        answer q = the largest severe probability of its five spinal rows
        weight v = the largest weight of its graded spinal rows
        loss   = sum of v * -(y log q + (1 - y) log(1 - q))  /  sum of v

Probabilities are clipped to [eps, 1 - eps], eps being the machine epsilon of their own dtype.
Locations without a grade are not scored, yet their rows must be there, as in the challenge.
Every term is a quotient of two sums over studies, which are kept by study: other choices of the
same studies are scored from them. Export judges lower precisions by it, and training its detectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import (
    GRADE_WEIGHTS,
    GROUPS,
    LOCATIONS,
    SEVERE,
    SPINAL,
    Group,
)

NO_GRADE = -1
ANY_SEVERE = "any_severe_spinal"
TERMS = (*(group.name for group in GROUPS), ANY_SEVERE)
SCORE = "score"

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MetricResult:
    """The score and its terms; smaller is better."""

    score: float  # mean of the terms that exist; of all groups, the challenge's
    # None where the group is none of those that were scored.
    spinal: float | None
    foraminal: float | None
    subarticular: float | None
    # None also where no study has a severe spinal row: the term does not exist (scikit-learn
    # refuses a single class), and the score is the mean of the others.
    any_severe_spinal: float | None


@dataclass(frozen=True, eq=False, slots=True)
class GradedAnswers:
    """Labels and answers of the same studies, paired by id and sorted by study."""

    studies: tuple[str, ...]  # S of them
    grade: IntArray  # (S, 25) index into GRADES, NO_GRADE where there is none; as LOCATIONS
    probability: FloatArray  # (S, 25, 3), clipped at the epsilon of the submission's dtype
    ignored: int = 0  # rows of the submission for studies that were left aside
    groups: tuple[Group, ...] = GROUPS  # to be scored; rows of the others are not looked at


@dataclass(frozen=True, eq=False, slots=True)
class StudySums:
    """What each study adds to the terms."""

    terms: tuple[str, ...]  # K of TERMS: those of the scored groups
    # (S, K, 3): weight * -log p, weight, and what the term cannot exist without: weight, or for
    # ANY_SEVERE the label y.
    sums: FloatArray


def study_sums(answers: GradedAnswers) -> StudySums:
    """The sums of every term of the answers' groups, by study."""
    sums = {group.name: _row_sums(answers, columns_of(group)) for group in answers.groups}
    parts = {
        name: np.stack([cost, weight, weight], axis=1) for name, (cost, weight) in sums.items()
    }
    if SPINAL in answers.groups:
        parts[ANY_SEVERE] = _any_severe_sums(answers)
    terms = tuple(term for term in TERMS if term in parts)
    return StudySums(terms, np.stack([parts[term] for term in terms], axis=1))


def quotients(sums: FloatArray) -> FloatArray:
    """Terms (..., K) of sums over studies (..., K, 3); NaN where a term does not exist."""
    cost, weight, needed = np.moveaxis(sums, -1, 0)
    terms = np.full(cost.shape, np.nan)
    np.divide(cost, weight, out=terms, where=needed > 0)
    return terms


def score_answers(answers: GradedAnswers) -> MetricResult:
    """The metric of labels and answers that were paired already.

    With fewer groups than all it is no score of the challenge's.

    Raises:
        DataError: one of the answers' groups has not a single graded row.
    """
    by_study = study_sums(answers)
    values = quotients(by_study.sums.sum(axis=0))
    found = {
        term: float(value)
        for term, value in zip(by_study.terms, values, strict=True)
        if not np.isnan(value)
    }
    for group in answers.groups:
        if group.name not in found:
            raise DataError(
                f"the label table holds no graded {group.name} row: there is nothing to score"
            )
    terms = {term: found.get(term) for term in TERMS}
    return MetricResult(score=float(np.mean(list(found.values()))), **terms)


def weighted_log_loss(
    probabilities: FloatArray, outcome: NDArray[np.int64], weights: FloatArray
) -> float:
    """Mean of -log(probability of the outcome), weighted. Shapes (N, K), (N,), (N,)."""
    return float(np.sum(_costs(probabilities, outcome, weights)) / np.sum(weights))


def columns_of(group: Group) -> list[int]:
    """Where a group's locations stand among LOCATIONS."""
    return [LOCATIONS.index(location) for location in group.locations]


def graded_groups(answers: GradedAnswers) -> tuple[Group, ...]:
    """Those of the answers' groups that have a graded row."""
    return tuple(
        group for group in answers.groups if (answers.grade[:, columns_of(group)] != NO_GRADE).any()
    )


def graded_rows(answers: GradedAnswers, columns: Sequence[int]) -> tuple[IntArray, FloatArray]:
    """Grades (N,) and probabilities (N, 3) of the rows that have a grade, of some locations."""
    grade, probability = answers.grade[:, columns], answers.probability[:, columns]
    graded = grade != NO_GRADE
    return grade[graded], probability[graded]


def pooled_loss(answers: GradedAnswers, columns: Sequence[int]) -> float | None:
    """Weighted log loss of some locations' graded rows; None where there is not one."""
    grade, probability = graded_rows(answers, columns)
    if not len(grade):
        return None
    return weighted_log_loss(probability, grade, _weights(grade))


def _row_sums(answers: GradedAnswers, columns: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Cost (S,) and weight (S,) of some locations' graded rows."""
    grade, probability = answers.grade[:, columns], answers.probability[:, columns]
    graded = grade != NO_GRADE
    weight = np.where(graded, _weights(grade), 0.0)
    cost = np.zeros_like(weight)
    cost[graded] = _costs(probability[graded], grade[graded], weight[graded])
    return cost.sum(axis=1), weight.sum(axis=1)


def _any_severe_sums(answers: GradedAnswers) -> FloatArray:
    """(S, 3) cost, weight and label of the binary row of each study; zeros where it has none."""
    columns = columns_of(SPINAL)
    worst = answers.grade[:, columns].max(axis=1)
    graded, label = worst != NO_GRADE, (worst == SEVERE).astype(np.int64)
    largest = answers.probability[:, columns, SEVERE].max(axis=1)
    binary = np.stack([1 - largest, largest], axis=1)
    # Weights grow with the grade, so the largest weight is that of the worst grade.
    weight = np.where(graded, _weights(worst), 0.0)
    return np.stack([_costs(binary, label, weight), weight, label], axis=1)


def _costs(probabilities: FloatArray, outcome: IntArray, weights: FloatArray) -> FloatArray:
    """Weight * -log(probability of the outcome). Shapes (N, K), (N,), (N,)."""
    return weights * -np.log(probabilities[np.arange(len(outcome)), outcome])


def _weights(grade: IntArray) -> FloatArray:
    """Of grades; NO_GRADE has any."""
    return np.array(GRADE_WEIGHTS, np.float64)[grade]
