"""Labelled peaks -> the bundle that they came from, calibrated.

The peaks of a bundle do not depend on the calibration that it has, so calibrating twice is the
same as calibrating once. ``fit_group`` fits each group, the prior rows for sets without slices
are counted again, and ``bundle.json`` is replaced. The model files stay as they are: temperature,
bias, floor and prior are inputs of the score graph.
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
from rsna_lumbar.runtime.core.labels import GRADES, SUBMISSION_COLUMNS, Group, row_id
from rsna_lumbar.runtime.core.metric import MetricResult
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.train.calibration.fit_group import (
    AIM_WEIGHTS,
    LEAST_STUDIES,
    PLAIN,
    Aim,
    GroupFit,
    IntArray,
    Losses,
    calibrate_group,
    crossvalidated_probabilities,
    group_probabilities,
    losses,
    study_folds,
)
from rsna_lumbar.train.calibration.labelled_peaks import Chosen, PeakTable
from rsna_lumbar.train.dataset.prior import class_prior
from rsna_lumbar.train.dataset.tables import LABELS
from rsna_lumbar.train.evaluation.metric import score

Rows = NDArray[np.float64]  # (N, L, 3), locations of the table's groups in their order


@dataclass(frozen=True, slots=True)
class Scores:
    """The challenge's metric on the studies of a peak table."""

    plain: MetricResult  # divided by the sum, prior rows as the bundle has them
    bundle: MetricResult | None  # as the bundle has it, where that is not plain
    after: MetricResult  # every study by what was fitted without it


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What calibrating found; nothing is written yet."""

    before: Bundle
    after: Bundle  # the same as before where no group could be judged
    aim: Aim  # asked for; the bundle's is "none" where all groups divide by the sum
    fits: tuple[GroupFit, ...]  # in the order of the bundle's groups
    in_bundle: tuple[Losses | None, ...]  # of a calibration that the bundle has, else None
    scores: Scores
    studies: int
    # row_id and the three grades, of the bundle's groups and all chosen studies. Where a fit was
    # adopted, by one to the other folds; else divided by the sum. Without slices, the prior.
    cross_validated: pd.DataFrame
    missing: tuple[str, ...]  # chosen studies without a single slice to score
    kept_prior: tuple[str, ...]  # groups with too few labelled studies to count the prior on

    @property
    def judged(self) -> bool:
        """Whether there was enough to calibrate any group on."""
        return not all(fit.too_few for fit in self.fits)


def calibrate(
    before: Bundle, root: Path, chosen: Chosen, table: PeakTable, *, aim: Aim, seed: int = 0
) -> Calibrated:
    """Fit every group and the prior rows; nothing is written.

    Args:
        before: the bundle that gave the peaks, read before it did.
        root: folder with the challenge's tables.
        chosen: from one of the functions above.
        table: from :func:`collect_peaks`.
        aim: what to minimise.
        seed: of the folds by which the fits are tried on unseen studies.

    Raises:
        DataError: a group has no graded row in any of the studies.
    """
    wide = read_csv(root / LABELS)
    labels = tidy_labels(wide)
    fold_of = study_folds(np.concatenate([g.grades for g in table.groups], axis=1), seed=seed)
    fits = tuple(calibrate_group(g.peaks, g.grades, aim, fold_of) for g in table.groups)
    used = tuple(
        _to_use(detector.calibration, fit, before.calibration_aim == aim)
        for detector, fit in zip(before.detectors, fits, strict=True)
    )
    reached: Aim | None = None if all(one == PLAIN for one in used) else aim
    priors = _PriorRows(before, labels, chosen.prior_studies, AIM_WEIGHTS[reached or "metric"])
    after = replace(
        before,
        detectors=tuple(
            replace(detector, calibration=calibration, prior=_as_tuples(priors.rows(detector)))
            for detector, calibration in zip(before.detectors, used, strict=True)
        ),
        calibration_aim=reached or "none",
    )
    unseen = _unseen_rows(table, fits, used, aim, fold_of, priors)
    if all(fit.too_few for fit in fits):
        after, unseen = before, _bundle_rows(before, table)
    truth = wide[wide["study_id"].isin(table.studies)]
    missing = tuple(sorted(set(chosen.studies) - set(table.studies)))
    honest = _unseen_rows(table, fits, [PLAIN] * len(fits), aim, fold_of, priors)
    return Calibrated(
        before=before,
        after=after,
        aim=aim,
        fits=fits,
        in_bundle=_losses_in_bundle(before, table, aim),
        scores=Scores(
            plain=_score(table, _plain_rows(before, table), truth),
            bundle=_score(table, _bundle_rows(before, table), truth) if _differs(before) else None,
            after=_score(table, unseen, truth),
        ),
        studies=len(table.studies),
        cross_validated=pd.concat(
            [
                _submission(table.studies, before.groups, honest),
                _submission(missing, before.groups, priors.of_unseen(missing)),
            ]
        ),
        missing=missing,
        kept_prior=tuple(d.group.name for d in before.detectors if priors.too_few(d.group)),
    )


def _to_use(in_bundle: Calibration, fit: GroupFit, same_aim: bool) -> Calibration:
    """A group that cannot be judged keeps an earlier calibration for the same aim."""
    return in_bundle if fit.too_few and same_aim else fit.calibration


def score_peaks(bundle: Bundle, table: PeakTable, root: Path) -> MetricResult:
    """The challenge's metric of peaks, normalised as a bundle says.

    Args:
        bundle: whose calibration and prior rows to use.
        table: from :func:`collect_peaks`.
        root: folder with the labels of the table's studies.
    """
    wide = read_csv(root / LABELS)
    truth = wide[wide["study_id"].isin(table.studies)]
    return _score(table, _bundle_rows(bundle, table), truth)


def write_calibration(folder: Path, calibrated: Calibrated) -> None:
    """Replace ``bundle.json`` atomically.

    Raises:
        BundleError: the bundle is not the one that was calibrated any more.
    """
    if read_bundle(folder) != calibrated.before:
        raise BundleError(f"{folder} was changed while it was being calibrated; calibrate it again")
    write_manifest(folder, calibrated.after)


@dataclass(frozen=True, slots=True)
class _PriorRows:
    """Prior rows of a detector, counted on labels; the bundle's own where those are too few."""

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
        locations = sum(len(group.locations) for group in self.bundle.groups)
        return np.reshape(found, (len(studies), locations, len(GRADES)))


def _as_tuples(rows: NDArray[np.float64]) -> tuple[tuple[float, float, float], ...]:
    return tuple((low, middle, high) for low, middle, high in rows.tolist())


def _differs(bundle: Bundle) -> bool:
    return any(detector.calibration != PLAIN for detector in bundle.detectors)


def _losses_in_bundle(bundle: Bundle, table: PeakTable, aim: Aim) -> tuple[Losses | None, ...]:
    return tuple(
        losses(group_probabilities(group.peaks, detector.calibration), group.grades, aim)
        if detector.calibration != PLAIN
        else None
        for detector, group in zip(bundle.detectors, table.groups, strict=True)
    )


def _plain_rows(bundle: Bundle, table: PeakTable) -> Rows:
    return _rows_by(bundle, table, [PLAIN] * len(table.groups))


def _bundle_rows(bundle: Bundle, table: PeakTable) -> Rows:
    return _rows_by(bundle, table, [detector.calibration for detector in bundle.detectors])


def _rows_by(bundle: Bundle, table: PeakTable, calibrations: Iterable[Calibration]) -> Rows:
    filled = [
        _filled(group_probabilities(group.peaks, calibration), np.array(detector.prior))
        for detector, group, calibration in zip(
            bundle.detectors, table.groups, calibrations, strict=True
        )
    ]
    return np.concatenate(filled, axis=1)


def _unseen_rows(
    table: PeakTable,
    fits: Sequence[GroupFit],
    used: Sequence[Calibration],
    aim: Aim,
    fold_of: IntArray,
    priors: _PriorRows,
) -> Rows:
    """What was adopted, refitted for each fold without it; prior rows too. The rest as it stays."""
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
            unseen = np.array(table.studies)[inside].tolist()
            given[inside] = _filled(given[inside], priors.rows(detector, unseen))
        parts.append(given)
    return np.concatenate(parts, axis=1)


def _filled(given: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(given), prior, given)


def _score(table: PeakTable, rows: Rows, truth: pd.DataFrame) -> MetricResult:
    """The metric of the table's groups."""
    groups = [one.group for one in table.groups]
    return score(_submission(table.studies, groups, rows), truth, groups)


def _submission(studies: Sequence[str], groups: Sequence[Group], rows: Rows) -> pd.DataFrame:
    names = [
        row_id(study, *location)
        for study in studies
        for group in groups
        for location in group.locations
    ]
    frame = pd.DataFrame(rows.reshape(-1, len(GRADES)), columns=list(GRADES))
    frame.insert(0, SUBMISSION_COLUMNS[0], names)
    return frame
