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
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.labels import (
    GRADE_WEIGHTS,
    GRADES,
    GROUPS,
    LOCATIONS,
    SPINAL,
    SUBMISSION_COLUMNS,
    row_id,
)
from rsna_lumbar.train.tables import study_ids, tidy_labels

# Six written digits are off by at most 3 * 5e-7; the score moves by no more than that.
SUM_TOLERANCE = 1e-5
SEVERE = GRADES.index("severe")
_SHOWN = 3  # examples in an error message

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MetricResult:
    """The score and its terms; smaller is better."""

    score: float  # mean of the terms that exist
    spinal: float
    foraminal: float
    subarticular: float
    # None where no study has a severe spinal row: the term does not exist (scikit-learn refuses
    # a single class), and the score is the mean of the other three.
    any_severe_spinal: float | None


def score(submission: pd.DataFrame, labels: pd.DataFrame) -> MetricResult:
    """Score a submission against a label table. Rows pair up by id; neither table is changed.

    Args:
        submission: row_id, normal_mild, moderate, severe; 25 rows for every study of ``labels``.
        labels: in the layout of train.csv, empty cells allowed.

    Raises:
        DataError: rows missing, unknown or standing twice; a value that is no number, negative,
            or a row that does not sum to 1; a group without a single graded row.
    """
    graded = tidy_labels(labels)
    answers = _answers(submission, sorted(study_ids(labels)))
    graded["row_id"] = [
        row_id(study, condition, level)
        for study, condition, level in zip(
            graded["study_id"], graded["condition"], graded["level"], strict=True
        )
    ]
    terms = {group.name: _group_loss(group.name, graded, answers) for group in GROUPS}
    any_severe = _any_severe_loss(graded, answers)
    existing = [*terms.values(), *([] if any_severe is None else [any_severe])]
    return MetricResult(score=float(np.mean(existing)), any_severe_spinal=any_severe, **terms)


def weighted_log_loss(
    probabilities: FloatArray, outcome: NDArray[np.int64], weights: FloatArray
) -> float:
    """Mean of -log(probability of the outcome), weighted. Shapes (N, K), (N,), (N,)."""
    likelihood = probabilities[np.arange(len(outcome)), outcome]
    return float(np.sum(weights * -np.log(likelihood)) / np.sum(weights))


def _group_loss(name: str, graded: pd.DataFrame, answers: pd.DataFrame) -> float:
    group = next(group for group in GROUPS if group.name == name)
    rows = graded[graded["condition"].isin(group.conditions)]
    if rows.empty:
        raise DataError(f"the label table holds no graded {name} row: there is nothing to score")
    grades = rows["grade"].to_numpy(np.int64)
    probabilities = answers.loc[rows["row_id"]].to_numpy(np.float64)
    return weighted_log_loss(probabilities, grades, np.array(GRADE_WEIGHTS)[grades])


def _any_severe_loss(graded: pd.DataFrame, answers: pd.DataFrame) -> float | None:
    worst = graded[graded["condition"].isin(SPINAL.conditions)].groupby("study_id")["grade"].max()
    label = np.asarray(worst == SEVERE, np.int64)
    if not label.any():
        return None
    names = [row_id(study, *location) for study in worst.index for location in SPINAL.locations]
    severe = answers.loc[names, GRADES[SEVERE]].to_numpy(np.float64)
    largest = severe.reshape(-1, len(SPINAL.locations)).max(axis=1)
    # Weights grow with the grade, so the largest weight is that of the worst grade.
    weights = np.array(GRADE_WEIGHTS)[worst.to_numpy(np.int64)]
    return weighted_log_loss(np.stack([1 - largest, largest], axis=1), label, weights)


def _answers(submission: pd.DataFrame, studies: list[str]) -> pd.DataFrame:
    """(rows, 3) float64, clipped, indexed by row id."""
    for column in SUBMISSION_COLUMNS:
        if column not in submission.columns:
            raise DataError(f"the submission lacks the column {column}")
    names = submission[SUBMISSION_COLUMNS[0]].astype(str)
    expected = {row_id(study, *location) for study in studies for location in LOCATIONS}
    _refuse(names[names.duplicated()], "stands twice", "stand twice")
    _refuse(names[~names.isin(expected)], "is of no labelled study", "are of no labelled study")
    _refuse(pd.Series(sorted(expected - set(names)), dtype=object), "is missing", "are missing")
    values = _numbers(submission, names)
    epsilon = np.finfo(values.dtype).eps
    clipped = np.clip(values, epsilon, 1 - epsilon).astype(np.float64)
    return pd.DataFrame(clipped, index=pd.Index(names), columns=list(GRADES))


def _numbers(submission: pd.DataFrame, names: pd.Series[str]) -> NDArray[np.floating[Any]]:
    columns = submission[list(GRADES)].apply(pd.to_numeric, errors="coerce")
    values: NDArray[Any] = columns.to_numpy()
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    finite = np.all(np.isfinite(values), axis=1)
    _refuse(names[~finite], "has a value that is no number", "have a value that is no number")
    _refuse(names[np.asarray(np.any(values < 0, axis=1))], "is negative", "are negative")
    off = np.abs(values.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE
    _refuse(names[off], "does not sum to 1", "do not sum to 1")
    return values


def _refuse(wrong: pd.Series[str], one: str, several: str) -> None:
    if len(wrong):
        examples = ", ".join(map(str, wrong.head(_SHOWN)))
        count = (
            f"1 row of the submission {one}"
            if len(wrong) == 1
            else (f"{len(wrong)} rows of the submission {several}")
        )
        raise DataError(f"{count}, such as {examples}")
