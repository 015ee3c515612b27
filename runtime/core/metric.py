"""The challenge's metric: the mean of four weighted log losses.

    loss(rows)  = sum over rows of w_i * -log p_i[grade_i]  /  sum of w_i,  w = 1, 2, 4 by grade
    spinal, foraminal, subarticular = loss(graded rows of the group, levels and sides pooled)
    any severe spinal: one binary row per study with a graded spinal row;
        label  y = 1 where any of its graded spinal rows is severe
        answer q = the largest severe probability of its five spinal rows
        weight v = the largest weight of its graded spinal rows
        loss   = sum of v * -(y log q + (1 - y) log(1 - q))  /  sum of v

Probabilities are clipped to [eps, 1 - eps], where eps is the machine epsilon of their own dtype.
Places without a grade are not scored, but their rows must be present, as in the challenge.
Every term is a quotient of two sums over studies. The sums are stored per study, so that resampled
sets of the same studies can be scored from them. Export uses this metric to judge lower precisions,
training to judge its detectors.
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

    score: float  # mean of the terms that exist; with all groups, the challenge's score
    # None if the group was not scored.
    spinal: float | None
    foraminal: float | None
    subarticular: float | None
    # Also None if no study has a severe spinal row: the term is then undefined (scikit-learn
    # refuses a single class), and the score is the mean of the others.
    any_severe_spinal: float | None


@dataclass(frozen=True, eq=False, slots=True)
class GradedAnswers:
    """Labels and answers of the same studies, paired by id and sorted by study."""

    studies: tuple[str, ...]  # S of them
    grade: IntArray  # (S, 25) index into GRADES, NO_GRADE if missing; columns in order of LOCATIONS
    probability: FloatArray  # (S, 25, 3), clipped at the epsilon of the submission's dtype
    ignored: int = 0  # rows of the submission that belong to other studies and were not used
    groups: tuple[Group, ...] = GROUPS  # groups to score; rows of other groups are ignored


@dataclass(frozen=True, eq=False, slots=True)
class StudySums:
    """The contribution of each study to the terms."""

    terms: tuple[str, ...]  # K of TERMS: those of the scored groups
    # (S, K, 3): weight * -log p, weight, and the quantity that must not sum to zero for the term
    # to exist: the weight, or for ANY_SEVERE the label y.
    sums: FloatArray


def study_sums(answers: GradedAnswers) -> StudySums:
    """The sums of every term of the answers' groups, per study."""
    sums = {group.name: _row_sums(answers, columns_of(group)) for group in answers.groups}
    parts = {
        name: np.stack([cost, weight, weight], axis=1) for name, (cost, weight) in sums.items()
    }
    if SPINAL in answers.groups:
        parts[ANY_SEVERE] = _any_severe_sums(answers)
    terms = tuple(term for term in TERMS if term in parts)
    return StudySums(terms, np.stack([parts[term] for term in terms], axis=1))


def quotients(sums: FloatArray) -> FloatArray:
    """Terms (..., K) from sums over studies (..., K, 3); NaN if a term does not exist."""
    cost, weight, needed = np.moveaxis(sums, -1, 0)
    terms = np.full(cost.shape, np.nan)
    np.divide(cost, weight, out=terms, where=needed > 0)
    return terms


def score_answers(answers: GradedAnswers) -> MetricResult:
    """The metric of labels and answers that are already paired.

    With fewer than all groups it is not the challenge's score.

    Raises:
        DataError: one of the answers' groups has no graded row.
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
    """Column indices of a group's locations in LOCATIONS."""
    return [LOCATIONS.index(location) for location in group.locations]


def graded_groups(answers: GradedAnswers) -> tuple[Group, ...]:
    """The answers' groups that have at least one graded row."""
    return tuple(
        group for group in answers.groups if (answers.grade[:, columns_of(group)] != NO_GRADE).any()
    )


def graded_rows(answers: GradedAnswers, columns: Sequence[int]) -> tuple[IntArray, FloatArray]:
    """Grades (N,) and probabilities (N, 3) of the graded rows of some locations."""
    grade, probability = answers.grade[:, columns], answers.probability[:, columns]
    graded = grade != NO_GRADE
    return grade[graded], probability[graded]


def pooled_loss(answers: GradedAnswers, columns: Sequence[int]) -> float | None:
    """Weighted log loss of the graded rows of some locations; None if there are none."""
    grade, probability = graded_rows(answers, columns)
    if not len(grade):
        return None
    return weighted_log_loss(probability, grade, _weights(grade))


def _row_sums(answers: GradedAnswers, columns: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Cost (S,) and weight (S,) of the graded rows of some locations."""
    grade, probability = answers.grade[:, columns], answers.probability[:, columns]
    graded = grade != NO_GRADE
    weight = np.where(graded, _weights(grade), 0.0)
    cost = np.zeros_like(weight)
    cost[graded] = _costs(probability[graded], grade[graded], weight[graded])
    return cost.sum(axis=1), weight.sum(axis=1)


def _any_severe_sums(answers: GradedAnswers) -> FloatArray:
    """(S, 3) cost, weight and label of each study's binary row; zeros if it has none."""
    columns = columns_of(SPINAL)
    worst = answers.grade[:, columns].max(axis=1)
    graded, label = worst != NO_GRADE, (worst == SEVERE).astype(np.int64)
    largest = answers.probability[:, columns, SEVERE].max(axis=1)
    binary = np.stack([1 - largest, largest], axis=1)
    # Weights grow with the grade, so the largest weight is the weight of the worst grade.
    weight = np.where(graded, _weights(worst), 0.0)
    return np.stack([_costs(binary, label, weight), weight, label], axis=1)


def _costs(probabilities: FloatArray, outcome: IntArray, weights: FloatArray) -> FloatArray:
    """Weight * -log(probability of the outcome). Shapes (N, K), (N,), (N,)."""
    return weights * -np.log(probabilities[np.arange(len(outcome)), outcome])


def _weights(grade: IntArray) -> FloatArray:
    """Weights of grades; the weight of NO_GRADE is arbitrary."""
    return np.array(GRADE_WEIGHTS, np.float64)[grade]
