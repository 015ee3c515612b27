"""The weighted class prior: the answer for a study without an image.

For each of the 25 locations, the frequency of each grade times the metric's weight of the grade,
divided by their sum. Of all constant answers, this one has the best metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import (
    GRADE_WEIGHTS,
    GRADES,
    LOCATIONS,
    SUBMISSION_COLUMNS,
    row_id,
)

SMOOTHING = 1.0  # cases added to each grade, so that no grade is impossible

Prior = NDArray[np.float64]  # (locations, 3), each row summing to 1


def class_prior(
    labels: pd.DataFrame,
    locations: Iterable[tuple[str, str]] = LOCATIONS,
    *,
    smoothing: float = SMOOTHING,
    grade_weights: Sequence[float] = GRADE_WEIGHTS,
) -> Prior:
    """Weighted grade frequencies of each location, with Laplace smoothing.

    Args:
        labels: as :func:`rsna_lumbar.runtime.core.label_table.tidy_labels` returns them.
        locations: the rows of the result.
        smoothing: cases added to each grade. With 0, each location needs a case.
        grade_weights: weight of a case, by grade; equal weights give plain frequencies.
    """
    counted = labels.groupby(["condition", "level", "grade"]).size().to_dict()
    grades = range(len(GRADES))
    cases = [[counted.get((*location, grade), 0) for grade in grades] for location in locations]
    weighted = (np.array(cases, np.float64) + smoothing) * np.array(grade_weights)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True), np.float64)


def prior_submission(prior: Prior, studies: Iterable[str]) -> pd.DataFrame:
    """The same 25 rows (in the order of LOCATIONS) for every study, as a submission."""
    studies = list(studies)
    return submission_table(studies, LOCATIONS, np.tile(prior, (len(studies), 1)))


def submission_table(
    studies: Iterable[str], locations: Iterable[tuple[str, str]], rows: NDArray[np.float64]
) -> pd.DataFrame:
    """Probabilities (studies, locations, 3), or so reshaped, as a submission."""
    locations = list(locations)
    names = [row_id(study, *location) for study in studies for location in locations]
    frame = pd.DataFrame(rows.reshape(-1, len(GRADES)), columns=list(GRADES))
    frame.insert(0, SUBMISSION_COLUMNS[0], names)
    return frame
