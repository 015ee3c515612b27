"""Which slices of a set may speak for which locations.

A **view** is the slices that may speak for some locations: the left and the right foramina, or the
subarticular zones of one level. A slice may be in several views, or in none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsna_lumbar.runtime.geometry.slice_plane import SlicePlane

# Slices nearer to the midline show the canal, not the foramina: labelled slices lie at least 5 mm
# from it in two studies of the challenge, whose slices are 4 mm apart.
MIDLINE_MM = 3.0
# Labelled slices lie at most 8.1 mm from their disc there, and discs are found to about 5 mm.
REACH_MM = 14.0


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
    return np.asarray((away == away.min(axis=0)) & (away <= REACH_MM))
