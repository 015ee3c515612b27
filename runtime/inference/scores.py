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
from rsna_lumbar.runtime.core.labels import Group
from rsna_lumbar.runtime.core.postprocess import combine_detectors, probabilities
from rsna_lumbar.runtime.core.reasons import Reason, Skip
from rsna_lumbar.runtime.decode.slice_sets import Decoding, SliceSet
from rsna_lumbar.runtime.inference.batches import Part
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


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The score of one group of one study."""

    group: Group
    probability: NDArray[np.float64]  # (locations, 3), rows sum to 1
    filled: Reason | None = None  # why these are prior rows; None if they were scored
    slice_count: int = 0
    peak: NDArray[np.float32] | None = None  # (C,) in canonical class order
    places: tuple[PeakPlace, ...] = ()  # one per class


@dataclass(frozen=True, slots=True)
class StudyScore:
    """One study: the bundle's groups in its order, or none if nothing asks for its rows."""

    study: Study
    groups: tuple[GroupScore, ...]
    skips: tuple[Skip, ...]  # found while listing and later
    decoding: Decoding = field(default_factory=Decoding)

    @property
    def study_id(self) -> str:
        return self.study.study_id


@dataclass(frozen=True, slots=True)
class PartPeaks:
    """The peaks of every detector of an ensemble in one part of a set."""

    peak: NDArray[np.float32]  # (detectors, C)
    probability: NDArray[np.float32]  # (detectors, L, 3), valid if the part is the whole set
    index: NDArray[np.int64]  # (detectors, C) index into the set's slices
    cell: NDArray[np.int64]  # (detectors, C)

    @classmethod
    def of(cls, part: Part, row: int, outputs: Sequence[Outputs]) -> PartPeaks:
        return cls(
            peak=np.stack([one.peak[row] for one in outputs]),
            probability=np.stack([one.probability[row] for one in outputs]),
            index=np.stack([one.slice[row] for one in outputs]) - part.row + part.start,
            cell=np.stack([one.cell[row] for one in outputs]),
        )


def study_score(
    study: Study,
    detectors: Sequence[Detector],
    scored: Mapping[str, GroupScore],
    skipped: Sequence[Skip],
    decoding: Decoding,
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
    return StudyScore(study, tuple(groups), tuple(skips), decoding)


def group_score(detector: Detector, part: Part, seen: Sequence[PartPeaks]) -> GroupScore:
    """Combine the parts of a set and the detectors of an ensemble; ``part`` is the last part."""
    peaks = np.stack([one.peak for one in seen])  # (parts, detectors, C)
    best_part = peaks.argmax(axis=0)  # (detectors, C)
    by_detector = peaks.max(axis=0)  # (detectors, C)
    combined = combine_detectors(by_detector, detector.combination)
    alone = len(seen) == 1 and len(by_detector) == 1
    raw = seen[0].probability[0] if alone else probabilities(combined, detector.calibration)
    best = by_detector.argmax(axis=0)  # (C,)
    places = (
        _place(part.of, seen[best_part[d, c]], d, c, detector.size_px) for c, d in enumerate(best)
    )
    return GroupScore(
        group=detector.group,
        probability=_renormalised(raw),
        slice_count=len(part.of.slices),
        peak=combined,
        places=tuple(places),
    )


def _place(of: SliceSet, seen: PartPeaks, detector: int, c: int, size_px: int) -> PeakPlace:
    one = of.slices[seen.index[detector, c]]
    centre = cell_centre(int(seen.cell[detector, c]), size_px)
    return PeakPlace(one.file, one.frame, *one.placement.nearest_in_image(*centre))


def _renormalised(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = rows.astype(np.float64)
    return np.asarray(exact / exact.sum(axis=-1, keepdims=True), np.float64)
