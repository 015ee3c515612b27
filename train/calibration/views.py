"""Calibrating both ways: peaks of all slices, or of those slices that show a location.

The bundle keeps the calibration for all slices, which serves studies without positions. A group
also gets one for views if studies that no fit saw score better by it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import GRADES, SPINAL, SUBMISSION_COLUMNS, row_id
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.core.text_table import aligned
from rsna_lumbar.train.calibration import report
from rsna_lumbar.train.calibration.calibrate import Calibrated, calibrate
from rsna_lumbar.train.calibration.fit_group import (
    PLAIN,
    Aim,
    Float64,
    Losses,
    losses,
    standard_error,
)
from rsna_lumbar.train.calibration.labelled_peaks import Chosen, GroupPeaks, PeakTable


class Compared(NamedTuple):
    """A group's losses on studies that no fit saw; None if no row is graded."""

    plain: Losses | None
    views: Losses | None
    gain: bool  # views are better by more than a standard error, and could be judged


@dataclass(frozen=True, slots=True)
class BothWays:
    """The result of calibrating both ways; nothing is written yet."""

    plain: Calibrated
    views: Calibrated
    groups: dict[str, Compared]  # all but spinal
    after: Bundle
    cross_validated: pd.DataFrame  # the rows of the way that each group uses

    @property
    def by_views(self) -> tuple[str, ...]:
        """Names of the groups that use views."""
        return self.after.groups_by_views


def require_spinal(bundle: Bundle) -> None:
    """Check that the bundle can find the discs.

    Raises:
        UsageError: it has no spinal detector.
    """
    if SPINAL not in bundle.groups:
        raise UsageError(
            "views need the discs that a spinal detector sees, and the bundle has none; "
            "add one, or calibrate without --views"
        )


def calibrate_both_ways(
    before: Bundle,
    root: Path,
    chosen: Chosen,
    plain: PeakTable,
    views: PeakTable,
    *,
    aim: Aim,
    seed: int = 0,
) -> BothWays:
    """Fit every group to both kinds of peaks, and use the better kind.

    A group that cannot be judged keeps earlier views for the same aim.

    Args:
        before: the bundle that computed the peaks.
        root: folder with the challenge's tables.
        chosen: from a function of ``labelled_peaks``.
        plain, views: peaks of the same studies over all slices, and by views.
        aim: what to minimise.
        seed: of the folds for cross-validation.

    Raises:
        DataError: a group has no graded row in any of the studies.
    """
    fitted_plain = calibrate(before, root, chosen, plain, aim=aim, seed=seed)
    earlier = replace(
        before,
        detectors=tuple(
            replace(one, calibration=one.in_session, by_views=None) for one in before.detectors
        ),
    )
    fitted_views = calibrate(earlier, root, chosen, views, aim=aim, seed=seed)
    rows_plain = fitted_plain.cross_validated.set_index(SUBMISSION_COLUMNS[0])
    rows_views = fitted_views.cross_validated.set_index(SUBMISSION_COLUMNS[0]).loc[rows_plain.index]
    compared: dict[str, Compared] = {}
    calibrations: list[Calibration | None] = []
    for detector, group, fit in zip(before.detectors, views.groups, fitted_views.fits, strict=True):
        if detector.group == SPINAL:
            calibrations.append(None)
            continue
        # Without positions, all slices and their calibration are used.
        without = np.flatnonzero(np.isnan(group.peaks).all(axis=(1, 2)))
        names = _names(group, [views.studies[index] for index in without])
        rows_views.loc[names] = rows_plain.loc[names]
        given = [_given(rows, group, views.studies) for rows in (rows_plain, rows_views)]
        found = _compared(given[0], given[1], group, aim, judged=not fit.too_few)
        compared[detector.group.name] = found
        keep = fit.too_few and before.calibration_aim == aim
        earlier_views = detector.by_views if keep else None
        calibrations.append(fit.calibration if found.gain else earlier_views)
    after = _with_views(fitted_plain.after, fitted_views.after, calibrations, aim)
    used = rows_plain.copy()
    for group in views.groups:
        if group.group.name in after.groups_by_views:
            names = _names(group, chosen.studies)
            used.loc[names] = rows_views.loc[names]
    rows = fitted_plain.cross_validated.assign(**{one: used[one].to_numpy() for one in GRADES})
    return BothWays(fitted_plain, fitted_views, compared, after, rows)


def as_table(found: BothWays, chosen: Chosen) -> str:
    """Both ways for people: of all slices, by views, and which way each group uses."""
    rows = [["loss on unseen studies", "all slices", "by views", "used"]]
    for name, group in found.groups.items():
        shown = ["-" if one is None else f"{one.loss:.4f}" for one in (group.plain, group.views)]
        rows.append([name, *shown, "by views" if name in found.by_views else "all slices"])
    ways = (("All slices", found.plain), ("By views", found.views))
    parts = [f"{title}: {report.as_table(one, chosen)}" for title, one in ways]
    return "\n\n".join([*parts, aligned(rows)])


def as_json(found: BothWays, chosen: Chosen) -> str:
    """The same for programs."""
    fields = {
        "by_views": found.by_views,
        "losses": {
            name: {
                "plain": group.plain and asdict(group.plain),
                "views": group.views and asdict(group.views),
            }
            for name, group in found.groups.items()
        },
        "plain": json.loads(report.as_json(found.plain, chosen)),
        "views": json.loads(report.as_json(found.views, chosen)),
    }
    return json.dumps(fields, indent=2, allow_nan=False)


def _compared(
    plain: Float64, views: Float64, group: GroupPeaks, aim: Aim, *, judged: bool
) -> Compared:
    before, after = (losses(rows, group.grades, aim) for rows in (plain, views))
    error = standard_error(plain, views, group.grades, aim)
    gain = before.loss - after.loss if before and after else 0.0
    return Compared(before, after, judged and error is not None and gain > error)


def _with_views(
    plain: Bundle, views: Bundle, calibrations: list[Calibration | None], aim: Aim
) -> Bundle:
    """The plainly calibrated bundle with these calibrations for views.

    Prior rows are those of the aim, which the plain way has not if it adopted no fit.
    """
    fitted = any(one not in (None, PLAIN) for one in calibrations)
    source = views if fitted and plain.calibration_aim != aim else plain
    return replace(
        plain,
        detectors=tuple(
            replace(detector, by_views=one, prior=counted.prior)
            for detector, counted, one in zip(
                plain.detectors, source.detectors, calibrations, strict=True
            )
        ),
        calibration_aim=aim if fitted else plain.calibration_aim,
    )


def _names(group: GroupPeaks, studies: list[str] | tuple[str, ...]) -> list[str]:
    return [row_id(study, *one) for study in studies for one in group.group.locations]


def _given(rows: pd.DataFrame, group: GroupPeaks, studies: tuple[str, ...]) -> Float64:
    """(N, L, 3)"""
    given = rows.loc[_names(group, studies), list(GRADES)].to_numpy()
    return np.asarray(given.reshape(*group.grades.shape, len(GRADES)), np.float64)
