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
Export judges lower precisions by it, and training its detectors.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.labels import (
    GRADE_WEIGHTS,
    GROUPS,
    LOCATIONS,
    SEVERE,
    SPINAL,
    Group,
)

NO_GRADE = -1

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MetricResult:
    """The score and its terms; smaller is better."""

    score: float  # mean of the terms that exist
    # None where the group was not asked for.
    spinal: float | None
    foraminal: float | None
    subarticular: float | None
    # None also where no study has a severe spinal row: the term does not exist (scikit-learn
    # refuses a single class), and the score is the mean of the other three.
    any_severe_spinal: float | None


@dataclass(frozen=True, eq=False, slots=True)
class GradedAnswers:
    """Labels and answers of the same studies, paired by id and sorted by study."""

    studies: tuple[str, ...]  # S of them
    grade: IntArray  # (S, 25) index into GRADES, NO_GRADE where there is none; as LOCATIONS
    probability: FloatArray  # (S, 25, 3), clipped at the epsilon of the submission's dtype
    ignored: int = 0  # rows of the submission for studies that were left aside


def score_answers(answers: GradedAnswers, groups: Collection[Group] = GROUPS) -> MetricResult:
    """The metric of labels and answers that were paired already.

    Args:
        answers: of all groups; those of other groups than ``groups`` are not looked at.
        groups: whose terms to compute; with fewer than all it is no score of the challenge's.

    Raises:
        DataError: a group without a single graded row.
    """
    terms = {g.name: _group_loss(g, answers) if g in groups else None for g in GROUPS}
    any_severe = _any_severe_loss(answers) if SPINAL in groups else None
    existing = [term for term in (*terms.values(), any_severe) if term is not None]
    return MetricResult(score=float(np.mean(existing)), any_severe_spinal=any_severe, **terms)


def weighted_log_loss(
    probabilities: FloatArray, outcome: NDArray[np.int64], weights: FloatArray
) -> float:
    """Mean of -log(probability of the outcome), weighted. Shapes (N, K), (N,), (N,)."""
    likelihood = probabilities[np.arange(len(outcome)), outcome]
    return float(np.sum(weights * -np.log(likelihood)) / np.sum(weights))


def columns_of(group: Group) -> list[int]:
    """Where a group's locations stand among LOCATIONS."""
    return [LOCATIONS.index(location) for location in group.locations]


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


def _group_loss(group: Group, answers: GradedAnswers) -> float:
    loss = pooled_loss(answers, columns_of(group))
    if loss is None:
        raise DataError(
            f"the label table holds no graded {group.name} row: there is nothing to score"
        )
    return loss


def _any_severe_loss(answers: GradedAnswers) -> float | None:
    columns = columns_of(SPINAL)
    worst = answers.grade[:, columns].max(axis=1)
    label = (worst == SEVERE).astype(np.int64)
    if not label.any():
        return None
    graded = worst != NO_GRADE
    largest = answers.probability[:, columns, SEVERE].max(axis=1)
    binary = np.stack([1 - largest, largest], axis=1)
    # Weights grow with the grade, so the largest weight is that of the worst grade.
    return weighted_log_loss(binary[graded], label[graded], _weights(worst[graded]))


def _weights(grade: IntArray) -> FloatArray:
    return np.array(GRADE_WEIGHTS, np.float64)[grade]
