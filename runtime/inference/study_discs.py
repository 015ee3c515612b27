"""The discs of a study, from what the spinal detector saw."""

from __future__ import annotations

from collections.abc import Sequence

from rsna_lumbar.runtime.core.labels import GRADES
from rsna_lumbar.runtime.dicom.slices import Slice
from rsna_lumbar.runtime.geometry.discs import Candidate, Discs, fit_discs
from rsna_lumbar.runtime.geometry.slice_plane import SlicePlane
from rsna_lumbar.runtime.inference.scores import GroupScore


def discs_of(slices: Sequence[Slice], spinal: GroupScore) -> Discs | None:
    """Fit the discs to the places of the peaks, each weighted by its peak.

    Args:
        slices: of the spinal set.
        spinal: its score.

    Returns:
        None if positions are not known, or those of the peaks do not form a spine.
    """
    if spinal.peak is None:
        return None
    planes = {(one.file, one.frame): SlicePlane.of(one) for one in slices}
    candidates: list[list[Candidate]] = [[] for _ in spinal.group.locations]
    for index, (peak, place) in enumerate(zip(spinal.peak, spinal.places, strict=True)):
        plane = planes[place.file, place.frame] if place else None
        if plane and place:
            point_mm = plane.point_mm(place.x, place.y)
            candidates[index // len(GRADES)].append(Candidate(point_mm, float(peak)))
    return fit_discs(candidates)
