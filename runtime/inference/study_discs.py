"""The discs of a study, from what the spinal detector saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rsna_lumbar.runtime.core.labels import GRADES
from rsna_lumbar.runtime.dicom.slices import Slice
from rsna_lumbar.runtime.geometry.discs import Candidate, Discs, fit_discs
from rsna_lumbar.runtime.geometry.slice_plane import SlicePlane, one_frame
from rsna_lumbar.runtime.inference.scores import GroupScore


def discs_of(slices: Sequence[Slice], spinal: GroupScore) -> Discs | None:
    """Fit the discs to the places of the peaks, each weighted by its peak.

    Args:
        slices: of the spinal set.
        spinal: its score.

    Returns:
        None if positions are not known, if those of two slices do not compare, or if those of the
        peaks do not form a spine.
    """
    planes = {(one.file, one.frame): SlicePlane.of(one) for one in slices}
    known = [plane for plane in planes.values() if plane]
    if spinal.peak is None or not one_frame(known):
        return None
    candidates: list[list[Candidate]] = [[] for _ in spinal.group.locations]
    for index, (peak, place) in enumerate(zip(spinal.peak, spinal.places, strict=True)):
        plane = planes[place.file, place.frame] if place else None
        if plane and place:
            point_mm = plane.point_mm(place.x, place.y)
            candidates[index // len(GRADES)].append(Candidate(point_mm, float(peak)))
    discs = fit_discs(candidates)
    uids = {one.frame_of_reference_uid for one in known} - {""}
    return discs and replace(discs, frame_of_reference_uid="".join(uids))
