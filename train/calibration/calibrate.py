"""Labelled peaks -> the bundle that computed them, calibrated.

The peaks of a bundle do not depend on its calibration, so calibrating twice gives the same as
calibrating once. ``fit_group`` fits each group, the prior rows for sets without slices are counted
again, and ``bundle.json`` is replaced. The model files do not change: temperature, bias, floor and
prior are inputs of the score graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsna_lumbar.runtime.bundle.manifest import read_bundle, write_manifest
from rsna_lumbar.runtime.bundle.records import Bundle, Detector
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.core.label_table import read_csv, tidy_labels
from rsna_lumbar.runtime.core.labels import GRADES, Group
from rsna_lumbar.runtime.core.metric import IntArray, MetricResult
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.train.calibration.fit_group import (
    AIM_WEIGHTS,
    LEAST_STUDIES,
    PLAIN,
    Aim,
    GroupFit,
    Losses,
    calibrate_group,
    crossvalidated_probabilities,
    group_probabilities,
    losses,
    study_folds,
)
from rsna_lumbar.train.calibration.labelled_peaks import Chosen, PeakTable
from rsna_lumbar.train.dataset.prior import class_prior, submission_table
from rsna_lumbar.train.dataset.tables import LABELS
from rsna_lumbar.train.evaluation.metric import score

Rows = NDArray[np.float64]  # (N, L, 3), locations of the table's groups in their order


@dataclass(frozen=True, slots=True)
class Scores:
    """The challenge's metric on the studies of a peak table."""

    plain: MetricResult  # divided by the sum, with the bundle's prior rows
    bundle: MetricResult | None  # with the bundle's calibration; None if that is plain division
    after: MetricResult  # every study scored by a fit that did not see it


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The result of calibrating; nothing is written yet."""

    before: Bundle
    after: Bundle  # equal to before if no group could be judged
    aim: Aim  # as requested; the bundle's is "none" if all groups divide by the sum
    fits: tuple[GroupFit, ...]  # in the order of the bundle's groups
    in_bundle: tuple[Losses | None, ...]  # of the bundle's calibrations; None for plain division
    scores: Scores
    studies: int
    # row_id and the three grades, for the bundle's groups and all chosen studies: from a fit to the
    # other folds if the fit was adopted, else divided by the sum; the prior if without slices.
    cross_validated: pd.DataFrame
    missing: tuple[str, ...]  # chosen studies without any slice to score
    kept_prior: tuple[str, ...]  # groups with too few labelled studies to count the prior on

    @property
    def judged(self) -> bool:
        """Whether the data sufficed to judge any group."""
        return not all(fit.too_few for fit in self.fits)


def calibrate(
    before: Bundle, root: Path, chosen: Chosen, table: PeakTable, *, aim: Aim, seed: int = 0
) -> Calibrated:
    """Fit every group and the prior rows; nothing is written.

    Args:
        before: the bundle that computed the peaks, read before it did.
        root: folder with the challenge's tables.
        chosen: from a function of ``labelled_peaks``.
        table: from :func:`rsna_lumbar.train.calibration.labelled_peaks.collect_peaks`.
        aim: what to minimise.
        seed: of the folds for cross-validation.

    Raises:
        DataError: a group has no graded row in any of the studies.
    """
    wide = read_csv(root / LABELS)
    truth = wide[wide["study_id"].isin(table.studies)]
    fold_of = study_folds(np.concatenate([g.grades for g in table.groups], axis=1), seed=seed)
    fits = tuple(calibrate_group(g.peaks, g.grades, aim, fold_of) for g in table.groups)
    earlier = _calibrations(before)
    plain = [PLAIN] * len(fits)
    # A group that cannot be judged keeps an earlier calibration for the same aim.
    keep = before.calibration_aim == aim
    used = [
        old if fit.too_few and keep else fit.calibration
        for old, fit in zip(earlier, fits, strict=True)
    ]
    reached: Aim | None = None if used == plain else aim
    weights = AIM_WEIGHTS[reached or "metric"]
    priors = _PriorRows(before, tidy_labels(wide), chosen.prior_studies, weights)
    after = replace(
        before,
        detectors=tuple(
            replace(
                detector,
                calibration=calibration,
                prior=_as_tuples(priors.rows(detector)),
                by_views=detector.by_views if fit.too_few and keep else None,
            )
            for detector, calibration, fit in zip(before.detectors, used, fits, strict=True)
        ),
        calibration_aim=reached or "none",
    )
    unseen = _unseen_rows(table, fits, used, aim, fold_of, priors)
    if all(fit.too_few for fit in fits):
        after, unseen = before, _rows(before, table, earlier)
    missing = tuple(sorted(set(chosen.studies) - set(table.studies)))
    honest = _unseen_rows(table, fits, plain, aim, fold_of, priors)
    return Calibrated(
        before=before,
        after=after,
        aim=aim,
        fits=fits,
        in_bundle=tuple(
            None if old == PLAIN else losses(group_probabilities(g.peaks, old), g.grades, aim)
            for old, g in zip(earlier, table.groups, strict=True)
        ),
        scores=Scores(
            plain=_score(table, _rows(before, table, plain), truth),
            bundle=None if earlier == plain else score_peaks(before, table, root),
            after=_score(table, unseen, truth),
        ),
        studies=len(table.studies),
        cross_validated=pd.concat(
            [
                submission_table(table.studies, _locations(before.groups), honest),
                submission_table(missing, _locations(before.groups), priors.of_unseen(missing)),
            ]
        ),
        missing=missing,
        kept_prior=tuple(d.group.name for d in before.detectors if priors.too_few(d.group)),
    )


def score_peaks(bundle: Bundle, table: PeakTable, root: Path) -> MetricResult:
    """The metric of peaks, with a bundle's calibration and prior rows and the labels of a root."""
    wide = read_csv(root / LABELS)
    truth = wide[wide["study_id"].isin(table.studies)]
    return _score(table, _rows(bundle, table, _calibrations(bundle)), truth)


def write_calibration(folder: Path, before: Bundle, after: Bundle) -> None:
    """Replace ``bundle.json`` atomically.

    Raises:
        BundleError: the bundle is no longer the one that was calibrated.
    """
    if read_bundle(folder) != before:
        raise BundleError(f"{folder} was changed while it was being calibrated; calibrate it again")
    write_manifest(folder, after)


@dataclass(frozen=True, slots=True)
class _PriorRows:
    """Prior rows of a detector, counted on labels; the bundle's own if there are too few."""

    bundle: Bundle
    labels: pd.DataFrame
    studies: tuple[str, ...]
    weights: tuple[float, ...]

    def too_few(self, group: Group) -> bool:
        counted = self.labels["study_id"].isin(self.studies)
        counted &= self.labels["condition"].isin(group.conditions)
        return self.labels.loc[counted, "study_id"].nunique() < LEAST_STUDIES

    def rows(self, detector: Detector, unseen: Iterable[str] = ()) -> NDArray[np.float64]:
        """(L, 3), counted without the unseen studies."""
        if self.too_few(detector.group):
            return np.array(detector.prior)
        counted = self.labels["study_id"].isin(set(self.studies) - set(unseen))
        locations = detector.group.locations
        return class_prior(self.labels[counted], locations, grade_weights=self.weights)

    def of_unseen(self, studies: Sequence[str]) -> Rows:
        """(N, L, 3) for studies without a slice, each counted on the others."""
        found = [
            np.concatenate([self.rows(detector, [study]) for detector in self.bundle.detectors])
            for study in studies
        ]
        return np.reshape(found, (len(studies), -1, len(GRADES))) if found else np.empty((0, 0, 3))


def _as_tuples(rows: NDArray[np.float64]) -> tuple[tuple[float, float, float], ...]:
    return tuple((low, middle, high) for low, middle, high in rows.tolist())


def _calibrations(bundle: Bundle) -> list[Calibration]:
    return [detector.calibration for detector in bundle.detectors]


def _rows(bundle: Bundle, table: PeakTable, calibrations: Iterable[Calibration]) -> Rows:
    """Rows of the table's studies, with the bundle's prior rows for groups without slices."""
    given = [
        group_probabilities(group.peaks, calibration)
        for group, calibration in zip(table.groups, calibrations, strict=True)
    ]
    prior = np.concatenate([detector.prior for detector in bundle.detectors])
    rows = np.concatenate(given, axis=1)
    return np.where(np.isnan(rows), prior, rows)


def _unseen_rows(
    table: PeakTable,
    fits: Sequence[GroupFit],
    used: Sequence[Calibration],
    aim: Aim,
    fold_of: IntArray,
    priors: _PriorRows,
) -> Rows:
    """Adopted fits and prior rows are made for each fold without it; the rest is as in ``used``."""
    parts = []
    for detector, group, fit, calibration in zip(
        priors.bundle.detectors, table.groups, fits, used, strict=True
    ):
        if fit.adopted:
            given = crossvalidated_probabilities(group.peaks, group.grades, aim, fold_of)
        else:
            given = group_probabilities(group.peaks, calibration)
        for fold in np.unique(fold_of):
            inside = fold_of == fold
            prior = priors.rows(detector, np.array(table.studies)[inside].tolist())
            given[inside] = np.where(np.isnan(given[inside]), prior, given[inside])
        parts.append(given)
    return np.concatenate(parts, axis=1)


def _score(table: PeakTable, rows: Rows, truth: pd.DataFrame) -> MetricResult:
    """The metric of the table's groups."""
    groups = [one.group for one in table.groups]
    return score(submission_table(table.studies, _locations(groups), rows), truth, groups)


def _locations(groups: Iterable[Group]) -> list[tuple[str, str]]:
    return [location for group in groups for location in group.locations]
