"""What helps a person beside the score: where it comes from, and how far to trust the numbers.

Per level: the metric's weighted log loss over the level's graded rows, sides pooled.

Per group and labelled grade:
    loss       mean of -log p of the labelled grade; one weight within a grade, so unweighted
    recall     share of the rows of this grade whose likeliest grade it is
    precision  share of the rows whose likeliest grade this is that are of it
The likeliest grade is the one with the largest probability, the milder of two that tie.

Calibration, of a group and a grade against the other two: rows fall into BINS bins of equal width
by the probability p of that grade, [0, 0.1), ... [0.9, 1], and

    calibration error = sum over bins of n_bin / n * |mean p in the bin - share of the grade in it|

A group's calibration error is the mean of those of its three grades (the classwise expected
calibration error). Rows count alike: no 1/2/4 weights. "all" pools the rows of the scored groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import GRADES, LEVELS, LOCATIONS
from rsna_lumbar.runtime.core.metric import (
    FloatArray,
    GradedAnswers,
    IntArray,
    columns_of,
    graded_rows,
    pooled_loss,
)

BINS = 10
ALL = "all"


@dataclass(frozen=True, slots=True)
class Bin:
    """The rows whose probability of a grade lies between two bounds."""

    count: int
    mean_probability: float | None  # None where the bin is empty
    share: float | None  # of its rows, how many are of the grade


@dataclass(frozen=True, slots=True)
class GradeReport:
    """One grade among the rows of a group."""

    count: int  # rows labelled so
    loss: float | None  # None where no row is labelled so
    recall: float | None  # likewise
    precision: float | None  # None where it is nowhere the likeliest
    calibration_error: float | None  # None where there is no row at all
    reliability: tuple[Bin, ...]  # BINS of them


@dataclass(frozen=True, slots=True)
class GroupReport:
    """The rows of a group, or of all."""

    rows: int  # with a grade
    confusion: tuple[tuple[int, ...], ...]  # 3 x 3: labelled grade, likeliest grade
    grades: tuple[GradeReport, ...]  # as GRADES
    calibration_error: float | None  # mean of those of the grades


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Everything beside the score."""

    levels: dict[str, dict[str, float | None]]  # level -> group or "all" -> weighted log loss
    groups: dict[str, GroupReport]  # the scored groups, then "all"


def diagnose(answers: GradedAnswers) -> Diagnostics:
    """Look at graded answers from every side that the module's docstring names."""
    pools = {group.name: columns_of(group) for group in answers.groups}
    pools[ALL] = [column for columns in pools.values() for column in columns]
    return Diagnostics(
        levels={
            level: {
                pool: pooled_loss(answers, _at(level, columns)) for pool, columns in pools.items()
            }
            for level in LEVELS
        },
        groups={
            pool: group_report(*graded_rows(answers, columns)) for pool, columns in pools.items()
        },
    )


def group_report(grade: IntArray, probability: FloatArray) -> GroupReport:
    """Report on some rows. Shapes (N,) and (N, 3); N may be 0."""
    confusion = confusion_matrix(grade, probability)
    grades = tuple(_grade_report(index, grade, probability, confusion) for index in range(3))
    return GroupReport(
        rows=len(grade),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        grades=grades,
        calibration_error=classwise_calibration_error(grade, probability) if len(grade) else None,
    )


def classwise_calibration_error(grade: IntArray, probability: FloatArray) -> float:
    """A group's calibration error. Shapes (N,) and (N, 3), N > 0."""
    errors = [
        calibration_error(reliability(probability[:, index], grade == index))
        for index in range(len(GRADES))
    ]
    return float(np.mean([error for error in errors if error is not None]))


def confusion_matrix(grade: IntArray, probability: FloatArray) -> IntArray:
    """(3, 3) counts: row the labelled grade, column the likeliest. Shapes (N,) and (N, 3)."""
    counts = np.zeros((len(GRADES), len(GRADES)), np.int64)
    np.add.at(counts, (grade, probability.argmax(axis=1)), 1)
    return counts


def reliability(probability: FloatArray, is_grade: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Probabilities of one grade (N,), and which rows are of it (N,), binned by probability."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    return tuple(_bin(probability[place == at], is_grade[place == at]) for at in range(BINS))


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Mean distance of what was said from what was so, by rows; None without any."""
    distances = [
        found.count * abs(found.mean_probability - found.share)
        for found in bins
        if found.mean_probability is not None and found.share is not None
    ]
    return sum(distances) / sum(found.count for found in bins) if distances else None


def share(part: np.int64, whole: np.int64) -> float | None:
    """Of the whole; None of nothing."""
    return float(part / whole) if whole else None


def _at(level: str, columns: Sequence[int]) -> list[int]:
    return [column for column in columns if LOCATIONS[column][1] == level]


def _bin(probability: FloatArray, is_grade: NDArray[np.bool_]) -> Bin:
    if not len(probability):
        return Bin(0, None, None)
    return Bin(len(probability), float(probability.mean()), float(is_grade.mean()))


def _grade_report(
    index: int, grade: IntArray, probability: FloatArray, confusion: IntArray
) -> GradeReport:
    of_grade = grade == index
    right = confusion[index, index]
    bins = reliability(probability[:, index], of_grade)
    return GradeReport(
        count=int(of_grade.sum()),
        loss=_mean(-np.log(probability[of_grade, index])),
        recall=share(right, confusion[index].sum()),
        precision=share(right, confusion[:, index].sum()),
        calibration_error=calibration_error(bins),
        reliability=bins,
    )


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None
