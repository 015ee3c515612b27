"""Exclude slices that, by their position, cannot show the anatomy that a group grades.

This is known for sagittal slices only, from the distance of their centre from the midline, along
the patient's x axis (LPS, millimetres). The middle of the stack stands for the midline. The anatomy
that must be shown, and where it is in adults:

- spinal canal: bounded by the pedicles 11 to 15 mm from the midline, widest at L5: up to 15 mm.
- neural foramina: between the pedicles' inner and outer edges, about 8 to 30 mm from the midline.

A margin is added because the midline may not be in the middle of the stack: 5 mm for the stack
(about one slice) and 5 mm for the spine. A regular curve of Cobb angle c over a length l deviates
from its chord by l/2 tan(c/4): 8 mm for 20 degrees over 180 mm from L1 to S1. Half of that, 4 mm,
lies on either side of the best middle.

    canal      15 + 5 + 5 = 25 mm
    foramina   30 + 5 + 5 = 40 mm

No slice is excluded for being too near the midline: the foramina begin at 8 mm, and after the
margin is subtracted, less than the distance between slices is left. All axial slices are kept:
only the image shows which of them cut a disc.

All slices are kept if the geometry is odd (below), or if fewer than ``LEAST`` would remain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, Group
from rsna_lumbar.runtime.dicom.series_kind import plane_of
from rsna_lumbar.runtime.dicom.slices import Slice

REACH_MM = {SPINAL.name: 25.0, FORAMINAL.name: 40.0}
# One slice more or less on a side moves the middle by half the slice distance of 4 mm. A larger
# shift means that a slice is somewhere else, or that two stacks do not lie side by side.
LARGEST_DISAGREEMENT_MM = 6.0
LEAST = 7  # slices of 4 mm: enough to show 25 mm of anatomy


def relevant(slices: Sequence[Slice], group: Group) -> tuple[Slice, ...]:
    """Exclude slices of one series that, by their position, cannot show the group's anatomy.

    The others stay in their order. Slices without geometry, and slices in another plane than
    sagittal, are kept. All slices are kept if the middle between the outermost slices and the
    median of the slices differ by more than 6 mm, or if fewer than 7 sagittal slices would remain.
    """
    reach_mm = REACH_MM.get(group.name)
    return tuple(slices) if reach_mm is None else within(slices, reach_mm)


def within(slices: Sequence[Slice], reach_mm: float) -> tuple[Slice, ...]:
    """Exclude sagittal slices whose centre is farther from the middle, as :func:`relevant`."""
    x_mm = [_x_mm(one) for one in slices]
    middle_mm = _middle_mm([x for x in x_mm if x is not None])
    if middle_mm is None:
        return tuple(slices)
    near = [x is not None and abs(x - middle_mm) <= reach_mm for x in x_mm]
    if sum(near) < LEAST:
        return tuple(slices)
    pairs = zip(slices, x_mm, near, strict=True)
    return tuple(one for one, x, is_near in pairs if x is None or is_near)


def _x_mm(one: Slice) -> float | None:
    """Position of a sagittal slice, from the patient's right to the left."""
    if one.geometry is None or plane_of(one.geometry.orientation) != "sagittal":
        return None
    return one.geometry.centre_mm[0]


def _middle_mm(x_mm: Sequence[float]) -> float | None:
    """The middle of the stack; None if there is none, or if it is doubtful."""
    if not x_mm:
        return None
    middle = (min(x_mm) + max(x_mm)) / 2
    doubtful = abs(middle - float(np.median(x_mm))) > LARGEST_DISAGREEMENT_MM
    return None if doubtful else middle
