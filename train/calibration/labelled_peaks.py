"""Labelled studies of a root, and the peaks that a bundle's detectors find in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.label_table import grade_table, read_csv
from rsna_lumbar.runtime.core.labels import GRADES, Group
from rsna_lumbar.runtime.core.metric import IntArray, columns_of
from rsna_lumbar.runtime.decode.factory import default_workers
from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle
from rsna_lumbar.runtime.inference.pipeline import decoded_sets, scored
from rsna_lumbar.runtime.inference.plan import plan_for
from rsna_lumbar.runtime.inference.scores import GroupScore, StudyScore
from rsna_lumbar.runtime.inference.selection import Wanted
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.studies.tables import read_study_list
from rsna_lumbar.train.dataset.split import Folds, split_studies
from rsna_lumbar.train.dataset.tables import LABELS, SERIES, Tables, read_tables

Track = Callable[[Iterable[StudyScore], str, int], Iterable[StudyScore]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Studies to calibrate on; both lists are sorted, and each study has at least one label."""

    studies: tuple[str, ...]
    prior_studies: tuple[str, ...]  # the prior rows are counted on their labels
    told: str  # how they were chosen, in words


@dataclass(frozen=True, slots=True)
class GroupPeaks:
    """Peaks and grades of one group, in the order of the peak table's studies."""

    group: Group
    # (N, L, 3); NaN in a study without a slice to score, and by views where no slice shows the
    # location, or positions are not known
    peaks: NDArray[np.float64]
    grades: IntArray  # (N, L), index into GRADES, or NO_GRADE


@dataclass(frozen=True, slots=True)
class PeakTable:
    """Peaks of a bundle's detectors in labelled studies, with the labels."""

    studies: tuple[str, ...]  # (N,)
    groups: tuple[GroupPeaks, ...]  # in the order of the bundle's groups


def studies_of_fold(root: Path, folds: Folds) -> Chosen:
    """The validation studies of one fold. DataError as :func:`all_studies`."""
    tables = read_tables(root)
    split = split_studies(tables, folds)
    told = f"the validation studies of fold {folds.fold} of {folds.folds}, seed {folds.seed}"
    return _chosen(tables, split.val, split.train, told)


def studies_of_list(root: Path, table: Path) -> Chosen:
    """The studies of a table with the column study_id; the prior is counted on all others.

    DataError as :func:`all_studies`, or if the table cannot be used.
    """
    tables, wanted = read_tables(root), read_study_list(table)
    others = set(tables.studies) - set(wanted)
    return _chosen(tables, wanted, others, f"the studies of {table.name}")


def all_studies(root: Path) -> Chosen:
    """Every labelled study of a root.

    Raises:
        DataError: the tables cannot be used, or no study is labelled.
    """
    tables = read_tables(root)
    told = "all labelled studies; make sure that the detectors were not trained on them"
    return _chosen(tables, tables.studies, (), told)


def _chosen(tables: Tables, wanted: Iterable[str], others: Iterable[str], told: str) -> Chosen:
    labelled = set(tables.labels["study_id"])
    studies = sorted(labelled & set(wanted))
    if not studies:
        raise DataError(f"none of {told.partition(';')[0]} has a label in {LABELS}; choose others")
    training = sorted(labelled & set(others)) or studies
    return Chosen(tuple(studies), tuple(training), told)


def collect_peaks(
    bundle: Path,
    root: Path,
    studies: Sequence[str],
    *,
    workers: int | None = None,
    device: str = "auto",
    track: Track | None = None,
    by_views: bool = False,
) -> PeakTable:
    """Score labelled studies with a bundle.

    Args:
        bundle: folder made by rsna-export.
        root: folder with the challenge's tables and ``train_images``.
        studies: ids; studies without any slice to score are not in the result.
        workers: decoding processes; None: as suits the number of files.
        device: as for :class:`rsna_lumbar.runtime.api.Scorer`.
        track: shows progress; called with the scores, a title and their number, returns the scores.
        by_views: only slices that show a location speak for it, where positions are known; else
            all slices, whatever the bundle says.

    Raises:
        DataError: the tables cannot be used, or there is no slice to score.
        BundleError, UsageError, BackendError: from the scorer.
    """
    groups = read_bundle(bundle).groups
    inventory = find_studies(root, root / SERIES, studies=studies)
    found = tuple(study for study in inventory.studies if any(map(study.of, groups)))
    inventory = replace(inventory, studies=found)
    if workers is None:
        workers = default_workers(inventory.file_count)
    with open_for_peaks(bundle, device, by_views=by_views) as opened:
        sets = decoded_sets(opened.bundle, inventory, workers=workers)
        with closing(sets):
            scores = scored(opened, inventory, sets)
            tracked = track(scores, "scoring", len(found)) if track else scores
            return _peak_table(tracked, root, groups)


def open_for_peaks(bundle: Path, device: str, *, by_views: bool) -> OpenBundle:
    """A bundle whose peaks are of all slices, or by views, whatever it is calibrated for.

    In float32: a calibration serves every precision, so it is fitted on the one that the others
    approximate.
    """
    plan = plan_for(bundle, Wanted(precision="fp32", device=device), trust=False)
    return OpenBundle(replace(plan, bundle=plan.bundle.scoring(by_views=by_views)))


def _peak_table(scores: Iterable[StudyScore], root: Path, groups: Sequence[Group]) -> PeakTable:
    scored = [one for one in scores if any(group.slice_count for group in one.groups)]
    if not scored:
        raise DataError(f"{root} has no readable image of the studies to calibrate on")
    studies = tuple(one.study_id for one in scored)
    grades = grade_table(read_csv(root / LABELS), studies)
    found = tuple(
        GroupPeaks(
            group,
            np.stack([_peaks(one.groups[index]) for one in scored]),
            grades[:, columns_of(group)],
        )
        for index, group in enumerate(groups)
    )
    return PeakTable(studies, found)


def _peaks(one: GroupScore) -> NDArray[np.float64]:
    """(L, 3)"""
    shape = len(one.group.locations), len(GRADES)
    if one.peak is None:
        return np.full(shape, np.nan)
    peaks = one.peak.astype(np.float64).reshape(shape)
    if one.views is not None:
        peaks[~one.views.covered if one.views.by_position else slice(None)] = np.nan
    return peaks
