"""Calibrating both ways: all slices speak for every location, or those that show it.

The bundle keeps the plain calibration, which serves studies without positions, and for each group
a calibration by views where that has the lower loss on studies that no fit saw.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from rsna_lumbar.runtime.bundle.records import Bundle
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import GRADES, SPINAL, SUBMISSION_COLUMNS, row_id
from rsna_lumbar.runtime.core.text_table import aligned
from rsna_lumbar.train.calibration import report
from rsna_lumbar.train.calibration.calibrate import Calibrated, calibrate
from rsna_lumbar.train.calibration.fit_group import Aim, Losses, losses
from rsna_lumbar.train.calibration.labelled_peaks import Chosen, GroupPeaks, PeakTable


@dataclass(frozen=True, slots=True)
class BothWays:
    """The result of calibrating both ways; nothing is written yet."""

    plain: Calibrated
    views: Calibrated
    # group -> losses of all graded rows on studies that no fit saw, plainly and by views
    losses: dict[str, tuple[Losses | None, Losses | None]]
    by_views: tuple[str, ...]  # groups that are better by views
    after: Bundle
    cross_validated: pd.DataFrame  # the rows of the better way of each group


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
    """Fit every group plainly and by views, and keep the better way of each.

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
    way = [calibrate(before, root, chosen, table, aim=aim, seed=seed) for table in (plain, views)]
    compared = {
        group.group.name: (
            _losses(way[0].cross_validated, group, plain.studies, aim),
            _losses(way[1].cross_validated, group, plain.studies, aim),
        )
        for group in plain.groups
        if group.group != SPINAL
    }
    better = tuple(
        name for name, (one, other) in compared.items() if one and other and other.loss < one.loss
    )
    fitted = {one.group.name: one.calibration for one in way[1].after.detectors}
    detectors = tuple(
        replace(one, by_views=fitted[one.group.name]) if one.group.name in better else one
        for one in way[0].after.detectors
    )
    return BothWays(
        plain=way[0],
        views=way[1],
        losses=compared,
        by_views=better,
        after=replace(way[0].after, detectors=detectors),
        cross_validated=_rows_of(way[0].cross_validated, way[1].cross_validated, before, better),
    )


def as_table(found: BothWays, chosen: Chosen) -> str:
    """Both ways for people: plainly, by views, and which way each group keeps."""
    rows = [["loss on unseen studies", "all slices", "by views", "kept"]]
    for name, figures in found.losses.items():
        shown = ["-" if one is None else f"{one.loss:.4f}" for one in figures]
        rows.append([name, *shown, "by views" if name in found.by_views else "all slices"])
    ways = (("All slices", found.plain), ("By views", found.views))
    parts = [f"{title}: {report.as_table(one, chosen)}" for title, one in ways]
    return "\n\n".join([*parts, aligned(rows)])


def as_json(found: BothWays, chosen: Chosen) -> str:
    """The same for programs."""
    fields = {
        "by_views": found.by_views,
        "losses": {
            name: {"plain": one and asdict(one), "views": other and asdict(other)}
            for name, (one, other) in found.losses.items()
        },
        "plain": json.loads(report.as_json(found.plain, chosen)),
        "views": json.loads(report.as_json(found.views, chosen)),
    }
    return json.dumps(fields, indent=2, allow_nan=False)


def _losses(
    rows: pd.DataFrame, group: GroupPeaks, studies: tuple[str, ...], aim: Aim
) -> Losses | None:
    names = [row_id(study, *one) for study in studies for one in group.group.locations]
    given = rows.set_index(SUBMISSION_COLUMNS[0]).loc[names, list(GRADES)].to_numpy()
    return losses(given.reshape(*group.grades.shape, len(GRADES)), group.grades, aim)


def _rows_of(
    plain: pd.DataFrame, views: pd.DataFrame, bundle: Bundle, better: tuple[str, ...]
) -> pd.DataFrame:
    conditions = tuple(c for g in bundle.groups if g.name in better for c in g.conditions)
    names = plain[SUBMISSION_COLUMNS[0]]
    by_views = names.map(lambda name: any(f"_{one}_" in name for one in conditions))
    chosen = views.set_index(SUBMISSION_COLUMNS[0]).loc[names].reset_index()
    return plain.reset_index(drop=True).where(~by_views.reset_index(drop=True), chosen)
