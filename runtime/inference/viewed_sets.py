"""From a decoded set and the discs of its study to the slices that speak for each location."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import FORAMINAL
from rsna_lumbar.runtime.decode.slice_sets import SetRequest, SliceSet
from rsna_lumbar.runtime.dicom.slices import Slice
from rsna_lumbar.runtime.geometry.discs import Discs
from rsna_lumbar.runtime.geometry.slice_plane import SlicePlane, one_frame
from rsna_lumbar.runtime.geometry.views import Views, one_view, views_by_position


@dataclass(frozen=True, slots=True)
class ViewedSet:
    """The slices of a set that are in a view, in order, and their views."""

    request: SetRequest
    slices: tuple[Slice, ...]  # n
    views: Views  # of n slices
    left_out: int = 0  # further slices of the set, in no view

    def views_between(self, start: int, stop: int) -> NDArray[np.bool_]:
        """(V,): the views that have a slice among these."""
        return np.asarray(self.views.slices[:, start:stop].any(axis=1))


def plainly(one: SliceSet) -> ViewedSet:
    """Every slice speaks for every location."""
    return ViewedSet(one.request, one.slices, one_view(len(one.slices), one.request.group))


def by_position(one: SliceSet, discs: Discs | None) -> ViewedSet:
    """Each location takes its peaks from the slices that show it.

    Plainly, if the discs are not known, if a slice has no position or one in another frame of
    reference, or if the slices cannot be of the same spine: no axial slice is near a disc, or all
    sagittal slices lie on one side of it.
    """
    planes = [plane for plane in map(SlicePlane.of, one.slices) if plane]
    if discs is None or len(planes) < len(one.slices) or not one_frame([*planes, discs]):
        return plainly(one)
    views = views_by_position(one.request.group, planes, discs.centres_mm)
    covered = views.slices.any(axis=1)
    if not (covered.all() if one.request.group == FORAMINAL else covered.any()):
        return plainly(one)
    seen = tuple(one.slices[index] for index in np.flatnonzero(views.seen))
    return ViewedSet(one.request, seen, _only_seen(views), len(one.slices) - len(seen))


def _only_seen(views: Views) -> Views:
    distance_mm = None if views.distance_mm is None else views.distance_mm[:, views.seen]
    return replace(views, slices=views.slices[:, views.seen], distance_mm=distance_mm)
