"""The metric of a variant's peaks is the metric of the submission that they make."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from toys import PRIOR_ROW, SIZE_PX

from rsna_lumbar.export.verification.challenge_metric import official_metric
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.labels import (
    GRADE_TITLES,
    GROUPS,
    LOCATIONS,
    SUBMISSION_COLUMNS,
    row_id,
)
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities
from rsna_lumbar.train.evaluation.metric import score

STUDIES = ("1", "2", "3")
CALIBRATION = Calibration(0.7, (0.1, 0.0, -0.2), 1e-3)


def detectors() -> tuple[Detector, ...]:
    return tuple(
        Detector(group, SIZE_PX, CALIBRATION, (PRIOR_ROW,) * len(group.locations), "mean", ())
        for group in GROUPS
    )


def labels() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    columns = {
        "_".join(location): [GRADE_TITLES[k] for k in generator.integers(0, 3, len(STUDIES))]
        for location in LOCATIONS
    }
    return pd.DataFrame({"study_id": STUDIES, **columns})


def peaks(seed: int) -> dict[str, dict[str, NDArray[np.float32]]]:
    generator = np.random.default_rng(seed)
    return {
        group.name: {
            study: generator.uniform(0, 1, len(group.classes)).astype(np.float32)
            for study in STUDIES
        }
        for group in GROUPS
    }


def submission(of: dict[str, dict[str, NDArray[np.float32]]]) -> pd.DataFrame:
    rows = []
    for group in GROUPS:
        for study in STUDIES:
            found = of[group.name].get(study)
            table = (
                np.array([PRIOR_ROW] * len(group.locations))
                if found is None
                else probabilities(found, CALIBRATION)
            )
            for (condition, level), row in zip(group.locations, table, strict=True):
                rows.append((row_id(study, condition, level), *row))
    return pd.DataFrame(rows, columns=list(SUBMISSION_COLUMNS))


def test_one_detector_a_group() -> None:
    of = peaks(2)
    found = official_metric(detectors(), {name: [one] for name, one in of.items()}, labels())
    assert found == pytest.approx(score(submission(of), labels()).score, rel=1e-12)


def test_an_ensemble_is_combined_as_the_bundle_says() -> None:
    one, two = peaks(2), peaks(3)
    mean = {
        name: {study: (one[name][study] + two[name][study]) / 2 for study in STUDIES}
        for name in one
    }
    found = official_metric(detectors(), {name: [one[name], two[name]] for name in one}, labels())
    assert found == pytest.approx(score(submission(mean), labels()).score, rel=1e-6)


def test_a_group_without_slices_gets_the_prior() -> None:
    of = peaks(4)
    del of["foraminal"]["2"]
    found = official_metric(detectors(), {name: [one] for name, one in of.items()}, labels())
    assert found == pytest.approx(score(submission(of), labels()).score, rel=1e-12)
