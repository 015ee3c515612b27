"""The weighted class prior: what to say of a study that nobody has looked at.

For each of the 25 locations, how often each grade occurs, times the metric's weight of that
grade, divided by the sum: the constant answer that the metric likes best.
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

SMOOTHING = 1.0  # one more case of each grade than were seen, so that none is impossible

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
        labels: as :func:`rsna_lumbar.train.dataset.tables.tidy_labels` returns them.
        locations: (condition, level) pairs, the rows of the result.
        smoothing: cases of each grade added to those counted. With 0, a location must have cases.
        grade_weights: what a case of each grade counts; equal ones give plain frequencies.
    """
    counted = labels.groupby(["condition", "level", "grade"]).size().to_dict()
    cases = np.array(
        [
            [counted.get((*location, grade), 0) for grade in range(len(GRADES))]
            for location in locations
        ],
        np.float64,
    )
    weighted = (cases + smoothing) * np.array(grade_weights)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True), np.float64)


def prior_submission(prior: Prior, studies: Iterable[str]) -> pd.DataFrame:
    """The same 25 rows (in the order of LOCATIONS) for every study, as a submission."""
    studies = list(studies)
    names = [row_id(study, *location) for study in studies for location in LOCATIONS]
    rows = pd.DataFrame(np.tile(prior, (len(studies), 1)), columns=list(GRADES))
    rows.insert(0, SUBMISSION_COLUMNS[0], names)
    return rows
