"""Diagnostics of a submission beside its score.

Per level: the metric's weighted log loss over the level's graded rows, sides pooled.

Per group and labelled grade:
    loss       mean of -log p of the labelled grade, unweighted (rows of a grade weigh the same)
    recall     share of the rows labelled with this grade for which it is the likeliest
    precision  share of the rows for which this grade is the likeliest that are labelled with it
The likeliest grade has the largest probability; if two are equal, it is the milder one.

Calibration of a group and a grade against the other two: rows are put into BINS bins of equal width
by the probability p of the grade, [0, 0.1), ... [0.9, 1], and

    calibration error = sum over bins of n_bin / n * |mean p in the bin - share of the grade in it|

A group's calibration error is the mean over its three grades (the classwise expected calibration
error). All rows weigh the same. "all" pools the rows of the scored groups.
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
    mean_probability: float | None  # None if the bin is empty
    share: float | None  # of its rows that are of the grade; None if the bin is empty


@dataclass(frozen=True, slots=True)
class GradeReport:
    """One grade among the rows of a group."""

    count: int  # rows labelled with it
    loss: float | None  # None if no row is labelled with it
    recall: float | None  # None if no row is labelled with it
    precision: float | None  # None if it is never the likeliest
    calibration_error: float | None  # None if there is no row
    reliability: tuple[Bin, ...]  # BINS of them


@dataclass(frozen=True, slots=True)
class GroupReport:
    """The rows of a group, or of all groups."""

    rows: int  # with a grade
    confusion: tuple[tuple[int, ...], ...]  # 3 x 3: labelled grade, likeliest grade
    grades: tuple[GradeReport, ...]  # in the order of GRADES
    calibration_error: float | None  # mean over the grades


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """All diagnostics of a submission."""

    levels: dict[str, dict[str, float | None]]  # level -> group or "all" -> weighted log loss
    groups: dict[str, GroupReport]  # the scored groups, then "all"


def diagnose(answers: GradedAnswers) -> Diagnostics:
    """Compute the diagnostics that the module's docstring defines."""
    pools = {group.name: columns_of(group) for group in answers.groups}
    pools[ALL] = [column for columns in pools.values() for column in columns]
    return Diagnostics(
        levels={
            level: {
                pool: pooled_loss(answers, [at for at in columns if LOCATIONS[at][1] == level])
                for pool, columns in pools.items()
            }
            for level in LEVELS
        },
        groups={
            pool: group_report(*graded_rows(answers, columns)) for pool, columns in pools.items()
        },
    )


def group_report(grade: IntArray, probability: FloatArray) -> GroupReport:
    """Shapes (N,) and (N, 3); N may be 0."""
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
    """(3, 3) counts; row: labelled grade, column: likeliest. Arguments have shapes (N,), (N, 3)."""
    counts = np.zeros((len(GRADES), len(GRADES)), np.int64)
    np.add.at(counts, (grade, probability.argmax(axis=1)), 1)
    return counts


def reliability(probability: FloatArray, is_grade: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Bin rows by their probability of one grade (N,); is_grade (N,): which are of the grade."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    return tuple(_bin(probability[place == at], is_grade[place == at]) for at in range(BINS))


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Mean over rows of the distance between probability and share; None without rows."""
    distances = [
        found.count * abs(found.mean_probability - found.share)
        for found in bins
        if found.mean_probability is not None and found.share is not None
    ]
    return sum(distances) / sum(found.count for found in bins) if distances else None


def share(part: np.int64, whole: np.int64) -> float | None:
    """part / whole; None if the whole is 0."""
    return float(part / whole) if whole else None


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
        loss=float(-np.log(probability[of_grade, index]).mean()) if of_grade.any() else None,
        recall=share(right, confusion[index].sum()),
        precision=share(right, confusion[:, index].sum()),
        calibration_error=calibration_error(bins),
        reliability=bins,
    )
