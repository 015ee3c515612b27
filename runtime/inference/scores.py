"""The score of a study: from the peaks of batches to probabilities and positions of peaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import Outputs
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.anchors import cell_centre
from rsna_lumbar.runtime.core.labels import GRADES, Group
from rsna_lumbar.runtime.core.postprocess import combine_detectors, probabilities
from rsna_lumbar.runtime.core.reasons import Reason, Skip
from rsna_lumbar.runtime.decode.slice_sets import Decoding
from rsna_lumbar.runtime.geometry.discs import Discs
from rsna_lumbar.runtime.geometry.views import Views
from rsna_lumbar.runtime.inference.batches import Part
from rsna_lumbar.runtime.inference.viewed_sets import ViewedSet
from rsna_lumbar.runtime.studies.study import Study


@dataclass(frozen=True, slots=True)
class PeakPlace:
    """The position of a class's peak: a frame of a file, and a pixel in it as stored.

    In pixels, with pixel centres at whole numbers, from 0 to the last column and row.
    """

    file: Path
    frame: int
    x: float
    y: float
    distance_mm: float | None = None  # of the slice from midline or disc, if views are by position


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The score of one group of one study."""

    group: Group
    probability: NDArray[np.float64]  # (locations, 3), rows sum to 1
    filled: Reason | None = None  # why these are prior rows; None if they were scored
    slice_count: int = 0
    peak: NDArray[np.float32] | None = None  # (C,) in canonical class order; 0 without a place
    # one per class; None where no slice is in its view
    places: tuple[PeakPlace | None, ...] = ()
    views: Views | None = None  # of the scored slices; None if the bundle does not ask for views
    left_out: int = 0  # slices in no view

    def why_prior(self, location: int) -> Reason | None:
        """Why the row of a location is a prior row; None if it was scored."""
        if self.filled or self.views is None or self.views.covered[location]:
            return self.filled
        return Reason.LEVEL_NOT_COVERED

    @property
    def uncovered(self) -> tuple[tuple[str, str], ...]:
        """Locations whose rows alone are prior rows, because no slice shows them."""
        if self.filled or self.views is None:
            return ()
        pairs = zip(self.group.locations, self.views.covered, strict=True)
        return tuple(location for location, shown in pairs if not shown)

    def view_of(self, location: int) -> str | None:
        """Name of the view that spoke for a location; None if the bundle does not ask for views."""
        return None if self.views is None else self.views.names[self.views.of_location[location]]


@dataclass(frozen=True, slots=True)
class StudyScore:
    """One study: the bundle's groups in its order, or none if nothing asks for its rows."""

    study: Study
    groups: tuple[GroupScore, ...]
    skips: tuple[Skip, ...]  # found while listing and later
    decoding: Decoding = field(default_factory=Decoding)
    discs: Discs | None = None  # if the bundle asks for views, and they were found

    @property
    def study_id(self) -> str:
        return self.study.study_id


@dataclass(frozen=True, slots=True)
class PartPeaks:
    """The peaks of every detector of an ensemble in one part of a set."""

    peak: NDArray[np.float32]  # (detectors, C); -1 where no slice of the part is in the view
    probability: NDArray[np.float32]  # (detectors, L, 3), valid if the part is the whole set
    index: NDArray[np.int64]  # (detectors, C) index into the set's slices, or -1
    cell: NDArray[np.int64]  # (detectors, C), or -1

    @classmethod
    def of(cls, part: Part, first_row: int, outputs: Sequence[Outputs]) -> PartPeaks:
        """Take each location from the row of its view; ``first_row`` is that of the first view."""
        views = part.of.views
        present = part.of.views_between(part.start, part.stop)  # (V,)
        row_of_view = np.where(present, first_row + present.cumsum() - 1, -1)
        location = np.arange(len(views.of_location))
        rows = row_of_view[views.of_location]  # (L,), -1 where the view has no slice here
        of_class, classes = np.repeat(rows, len(GRADES)), np.arange(len(rows) * len(GRADES))
        seen = of_class >= 0
        start = part.start - part.row
        return cls(
            peak=np.stack([np.where(seen, one.peak[of_class, classes], -1) for one in outputs]),
            probability=np.stack([one.probability[rows, location] for one in outputs]),
            index=np.stack(
                [np.where(seen, one.slice[of_class, classes] + start, -1) for one in outputs]
            ),
            cell=np.stack([np.where(seen, one.cell[of_class, classes], -1) for one in outputs]),
        )


def study_score(
    study: Study,
    detectors: Sequence[Detector],
    scored: Mapping[str, GroupScore],
    skipped: Sequence[Skip],
    decoding: Decoding,
    discs: Discs | None = None,
) -> StudyScore:
    """Combine the groups of a study; groups without slices get the bundle's prior rows.

    ``scored`` is name of the group -> its score; ``skipped`` is what decoding left out.
    """
    skips = [*study.skips, *skipped]
    if not study.listed and not any(study.of(detector.group) for detector in detectors):
        skips.append(Skip(Reason.NO_SERIES_TO_SCORE, study.study_id))
        return StudyScore(study, (), tuple(skips), decoding)
    groups = []
    for detector in detectors:
        score = scored.get(detector.group.name)
        if score is None:
            group = detector.group
            why = Reason.NO_READABLE_SLICE if study.of(group) else Reason.SERIES_MISSING
            score = GroupScore(group, _renormalised(np.array(detector.prior)), filled=why)
            skips.append(Skip(why, study.study_id, group.series_kind))
        groups.append(score)
    return StudyScore(study, tuple(groups), tuple(skips), decoding, discs)


def group_score(detector: Detector, part: Part, seen: Sequence[PartPeaks]) -> GroupScore:
    """Combine the parts of a set and the detectors of an ensemble; ``part`` is the last part."""
    peaks = np.stack([one.peak for one in seen])  # (parts, detectors, C)
    best_part = peaks.argmax(axis=0)  # (detectors, C)
    by_detector = np.maximum(peaks.max(axis=0), 0)  # (detectors, C)
    combined = combine_detectors(by_detector, detector.combination)
    views = part.of.views
    calibration = detector.calibration_of(by_position=views.by_position)
    alone = len(seen) == 1 and len(by_detector) == 1 and calibration == detector.in_session
    raw = seen[0].probability[0] if alone else probabilities(combined, calibration)
    best = by_detector.argmax(axis=0)  # (C,)
    places = (
        _place(part.of, seen[best_part[d, c]], d, c, detector.size_px) for c, d in enumerate(best)
    )
    rows = np.where(views.covered[:, None], raw, np.array(detector.prior))
    return GroupScore(
        group=detector.group,
        probability=_renormalised(rows),
        slice_count=len(part.of.slices),
        peak=combined,
        places=tuple(places),
        views=views if detector.by_views else None,
        left_out=part.of.left_out,
    )


def _place(of: ViewedSet, seen: PartPeaks, detector: int, c: int, size_px: int) -> PeakPlace | None:
    index = seen.index[detector, c]
    if index < 0:
        return None
    one, views = of.slices[index], of.views
    x, y = one.placement.nearest_in_image(*cell_centre(int(seen.cell[detector, c]), size_px))
    distance_mm = None
    if views.distance_mm is not None:
        distance_mm = float(views.distance_mm[views.of_location[c // len(GRADES)], index])
    return PeakPlace(one.file, one.frame, x, y, distance_mm)


def _renormalised(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    return np.asarray(exact / exact.sum(axis=-1, keepdims=True), np.float64)
