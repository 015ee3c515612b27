"""The official metric of the peaks of a whole variant, or of the reference.

The metric combines all groups of a bundle, so it judges a variant and not a model. Peaks become
rows as in the runtime: combined over an ensemble, calibrated, and replaced by the prior if a study
has no slice of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsna_lumbar.export.verification.parity import Peaks
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.label_table import grade_table
from rsna_lumbar.runtime.core.labels import LOCATIONS
from rsna_lumbar.runtime.core.metric import GradedAnswers, columns_of, score_answers
from rsna_lumbar.runtime.core.postprocess import combine_detectors, probabilities

PeaksOfGroups = Mapping[str, Sequence[Peaks]]  # group name -> peaks by each of its detectors


def official_metric(
    detectors: Sequence[Detector], peaks: PeaksOfGroups, labels: pd.DataFrame
) -> float:
    """The metric over the studies that have slices of any group.

    Args:
        detectors: the detectors of the bundle; the metric covers their groups only.
        peaks: of every detector of these groups.
        labels: in the layout of train.csv.

    Raises:
        DataError: a group has not a single graded row.
    """
    studies = sorted({study for found in peaks.values() for one in found for study in one})
    table = np.full((len(studies), len(LOCATIONS), 3), np.nan)
    for detector in detectors:
        rows = [_rows(detector, peaks[detector.group.name], study) for study in studies]
        table[:, columns_of(detector.group)] = np.stack(rows)
    epsilon = np.finfo(table.dtype).eps
    answers = GradedAnswers(
        studies=tuple(studies),
        grade=grade_table(labels, studies),
        probability=np.clip(table, epsilon, 1 - epsilon),
        groups=tuple(detector.group for detector in detectors),
    )
    return score_answers(answers).score


def _rows(detector: Detector, peaks: Sequence[Peaks], study: str) -> NDArray[np.float64]:
    """(L, 3) of one group and study."""
    if study not in peaks[0]:
        return np.array(detector.prior)
    combined = combine_detectors(np.stack([one[study] for one in peaks]), detector.combination)
    return probabilities(combined, detector.calibration)
