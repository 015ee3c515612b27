"""The slices to verify models on, and those to calibrate int8 on.

Both are spread evenly over the studies of a folder, because neighbours in an archive are similar.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.errors import DataError, ExportError, UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.decode.decoder import DecodeHere
from rsna_lumbar.runtime.decode.slice_sets import SetRequest, decode_sets, read_sets
from rsna_lumbar.runtime.demo import demo_studies
from rsna_lumbar.runtime.studies.finder import find_studies
from rsna_lumbar.runtime.studies.study import Inventory

if TYPE_CHECKING:
    import pandas as pd

VERIFIED_STUDIES = 4  # some 300 slices: seconds in PyTorch for YOLOv8n
LABELLED_STUDIES = 100  # with labels, so that one percent of the metric is significant
# Per group, at most. 256 of 64 studies missed rare values: the metric of the phantom detectors
# became 4.8 % worse, with 512 slices up to 2.8 %, with 1024 0.5 % (200 held-out studies).
CALIBRATION_SLICES = 1024
CALIBRATION_STUDIES = 256

Item = TypeVar("Item")
Sets = dict[str, NDArray[np.uint8]]  # study id -> (n, S, S), n > 0


@dataclass(frozen=True, eq=False, slots=True)
class VerificationData:
    """Studies to verify on."""

    inventory: Inventory
    source: str  # "data", or "phantom": the studies of the package
    labels: pd.DataFrame | None  # in the layout of train.csv

    def sets(self, detector: Detector, preprocessing: Preprocessing) -> Sets:
        """The sets of one group.

        Raises:
            ExportError: there is no slice.
        """
        found = read_sets(
            self.inventory, detector.group, size_px=detector.size_px, preprocessing=preprocessing
        )
        if not found:
            raise _nothing_to_read(self.inventory, detector, "--verify-data")
        return found


def verification_data(
    data: Path | None,
    labels: Path | None,
    study_count: int | None,
    groups: Collection[Group] = GROUPS,
) -> VerificationData:
    """Find the studies to verify on; those with slices of every group, if there are any.

    Args:
        data: DICOM folder; None takes the phantom studies of the package.
        labels: a table in the layout of train.csv; then only studies that it lists are taken.
        study_count: most studies; None takes 4, or 100 if there are labels.
        groups: the groups of the bundle.

    Raises:
        UsageError: the folder does not exist, or there are labels without data.
        DataError: the table cannot be read, or lists no study of the folder.
    """
    if labels is not None and data is None:
        raise UsageError("--verify-labels needs --verify-data, the folder of the labelled studies")
    table, listed = None, None
    if labels is not None:
        from rsna_lumbar.runtime.core.label_table import read_csv, study_ids

        table = read_csv(labels)
        listed = frozenset(study_ids(table))
    inventory = _inventory(data or demo_studies(), "--verify-data")
    studies = [one for one in inventory.studies if listed is None or one.study_id in listed]
    if listed is not None and not studies:
        raise DataError(f"{labels} lists no study of {data}; do the ids agree?")
    whole = [one for one in studies if all(map(one.of, groups))]
    count = study_count or (VERIFIED_STUDIES if labels is None else LABELLED_STUDIES)
    inventory = replace(inventory, studies=tuple(spread(whole or studies, count)))
    return VerificationData(inventory, "data" if data else "phantom", table)


def calibration_slices(
    data: Path, detector: Detector, preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """Up to 1024 slices of one group, of up to 256 studies, (N, S, S) uint8.

    Raises:
        UsageError: the folder does not exist.
        ExportError: there is no slice.
    """
    inventory = _inventory(data, "--calibration-data")
    studies = spread([s for s in inventory.studies if s.of(detector.group)], CALIBRATION_STUDIES)
    of_each = -(-CALIBRATION_SLICES // max(1, len(studies)))
    requests = (
        SetRequest(
            study.study_id,
            detector.group,
            detector.size_px,
            (tuple(spread([f for s in study.of(detector.group) for f in s.files], of_each)),),
        )
        for study in studies
    )
    decoded = decode_sets(requests, DecodeHere(preprocessing), data=inventory.data)
    slices = [one.image for some in decoded for one in some.slices]
    if not slices:
        raise _nothing_to_read(inventory, detector, "--calibration-data")
    return np.stack(spread(slices, CALIBRATION_SLICES))


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` items: the middle one of each of ``count`` equal parts.

    (The first and the last slices of a series show little of a spine.)
    """
    if len(items) <= count:
        return list(items)
    places = (np.arange(count) + 0.5) * len(items) / count
    return [items[place] for place in places.astype(int)]


def _inventory(data: Path, option: str) -> Inventory:
    if not data.is_dir():
        raise UsageError(f"{data} does not exist; give {option} DIR, a folder of DICOM files")
    return find_studies(data)


def _nothing_to_read(inventory: Inventory, detector: Detector, option: str) -> ExportError:
    return ExportError(
        f"{inventory.data} has no slice that {detector.group.name} reads "
        f"({detector.group.series_kind}); name another folder with {option}"
    )
