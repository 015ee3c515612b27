"""Which slices of a set may speak for which locations.

A **view** is the slices that may speak for some locations: the left and the right foramina, or the
subarticular zones of one level. A slice is in one view, or in none. Where nothing is known of
positions, one view holds every slice and speaks for every location.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsna_lumbar.runtime.core.labels import FORAMINAL, LEVELS, SUBARTICULAR, Group
from rsna_lumbar.runtime.geometry.slice_plane import SlicePlane

# Slices nearer to the midline show the canal, not the foramina: labelled slices lie at least 5 mm
# from it in two studies of the challenge, whose slices are 4 mm apart.
MIDLINE_MM = 3.0
# Half a step between discs, and what a disc may be off: up to 13 mm in 90 % of phantom studies, at
# 160 px. It leaves out no slice between two discs, only those beyond the first and the last.
REACH_MM = 30.0


SIDES = ("left", "right")


@dataclass(frozen=True, eq=False, slots=True)
class Views:
    """The views of a set, and the view of each location."""

    names: tuple[str, ...]  # (V,)
    slices: NDArray[np.bool_]  # (V, n)
    of_location: NDArray[np.intp]  # (L,) index of the location's view
    # (V, n) of each slice from the midline or the view's disc; None for the view of all slices
    distance_mm: NDArray[np.float64] | None = None

    @property
    def by_position(self) -> bool:
        """Whether positions decided; False: all slices speak for all locations."""
        return self.distance_mm is not None

    @property
    def covered(self) -> NDArray[np.bool_]:
        """(L,): the locations whose view has a slice."""
        return np.asarray(self.slices.any(axis=1))[self.of_location]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(n,): the slices that are in a view."""
        return np.asarray(self.slices.any(axis=0))


def one_view(count: int, group: Group) -> Views:
    """Every slice speaks for every location."""
    locations = len(group.locations)
    return Views(("all",), np.ones((1, count), bool), np.zeros(locations, np.intp))


def views_by_position(group: Group, planes: Sequence[SlicePlane], discs_mm: ArrayLike) -> Views:
    """The views of a set whose slices and discs have positions.

    Args:
        group: foraminal: one view per side. Subarticular: one per level. Else: one of all slices.
        planes: n slices in the group's plane.
        discs_mm: (5, 3) disc centres, at the level of the canal.
    """
    if group == FORAMINAL:
        left_mm = left_of_midline_mm(planes, discs_mm)
        of_location = [SIDES.index(condition.split("_")[0]) for condition, _ in group.locations]
        return Views(SIDES, side_views(left_mm), np.array(of_location), np.stack([left_mm] * 2))
    if group == SUBARTICULAR:
        above_mm = disc_distances_mm(planes, discs_mm)
        of_location = [LEVELS.index(level) for _, level in group.locations]
        return Views(LEVELS, level_views(above_mm), np.array(of_location), above_mm)
    return one_view(len(planes), group)


def left_of_midline_mm(planes: Sequence[SlicePlane], canal_mm: ArrayLike) -> NDArray[np.float64]:
    """How far sagittal slices lie to the patient's left of the spinal canal.

    Each slice is compared with each point of the canal along the slice's normal, so oblique and
    shifted stacks need no common midline; the median over the points resists false ones.

    Args:
        planes: n sagittal slices.
        canal_mm: (m, 3) points of the canal, m > 0.

    Returns:
        (n,) millimetres, negative on the right.
    """
    return np.array([np.median(plane.beyond_mm(canal_mm, axis=0)) for plane in planes])


def side_views(left_mm: ArrayLike) -> NDArray[np.bool_]:
    """(2, n): the slices that speak for the left foramina, and those for the right.

    Args:
        left_mm: (n,) from :func:`left_of_midline_mm`.
    """
    left = np.asarray(left_mm)
    return np.stack([left > MIDLINE_MM, left < -MIDLINE_MM])


def disc_distances_mm(planes: Sequence[SlicePlane], discs_mm: ArrayLike) -> NDArray[np.float64]:
    """(5, n): distance of axial slices above each disc (negative: below), along their normals.

    Args:
        planes: n axial slices.
        discs_mm: (5, 3) disc centres.
    """
    return np.stack([plane.beyond_mm(discs_mm, axis=2) for plane in planes], axis=1)


def level_views(distances_mm: ArrayLike) -> NDArray[np.bool_]:
    """(5, n): the slices that speak for each level: those nearest to its disc and within reach.

    Args:
        distances_mm: (5, n) from :func:`disc_distances_mm`.
    """
    away = np.abs(np.asarray(distances_mm))
    nearest = np.arange(len(LEVELS))[:, None] == away.argmin(axis=0)  # the upper one of two equals
    return np.asarray(nearest & (away <= REACH_MM))
