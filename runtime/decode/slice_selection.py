"""Slices that by their position cannot show what a group's detector looks for.

Only sagittal slices can be told so, by the distance of their centre from the midline, along the
patient's x axis (LPS, millimetres). The middle of the stack stands for the midline. What has to be
shown, and where it lies, for adults:

- spinal canal: the pedicles bound it 11 to 15 mm from the midline, widest at L5: up to 15 mm.
- neural foramina: between the pedicles' inner and outer edges, about 8 to 30 mm from the midline.

Added is a margin for a midline that is not in the middle of the stack: 5 mm for the stack, about
one slice, and 5 mm for the spine. A regular curve of Cobb angle c over a length l leaves its chord
by l/2 tan(c/4): 8 mm for 20 degrees over 180 mm from L1 to S1, and half of it on either side of the
best middle is 4 mm.

    canal      15 + 5 + 5 = 25 mm
    foramina   30 + 5 + 5 = 40 mm

No slice is left out for being too near the midline: less of the foramina's 8 mm is left, once the
margin is taken off, than slices are apart. Axial slices are all kept: which of them cut a disc
shows in the image only.

All slices are kept where the geometry is odd (below), or where fewer than ``LEAST`` would remain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, Group
from rsna_lumbar.runtime.dicom.series_kind import plane_of
from rsna_lumbar.runtime.dicom.slices import Slice

REACH_MM = {SPINAL.name: 25.0, FORAMINAL.name: 40.0}
# One slice more or less on a side moves the middle by half a distance of 4 mm; what moves it
# further is a slice that lies elsewhere, or two stacks that do not lie side by side.
LARGEST_DISAGREEMENT_MM = 6.0
LEAST = 7  # of 4 mm: what shows 25 mm of anatomy


def relevant(slices: Sequence[Slice], group: Group) -> tuple[Slice, ...]:
    """Leave out what by position cannot show the group's target.

    Args:
        slices: of one series, in order.
        group: who reads it.

    Returns:
        What is left, in the same order. Slices without geometry, and slices of another plane than
        sagittal, are kept. All are kept where the middle between the outermost slices and the
        median of the slices are more than 6 mm apart, and where fewer than 7 sagittal slices would
        remain.
    """
    reach_mm = REACH_MM.get(group.name)
    return tuple(slices) if reach_mm is None else within(slices, reach_mm)


def within(slices: Sequence[Slice], reach_mm: float) -> tuple[Slice, ...]:
    """Leave out sagittal slices whose centre is farther from the middle, as :func:`relevant`."""
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
    """Where a sagittal slice lies, from the patient's right to the left."""
    if one.geometry is None or plane_of(one.geometry.orientation) != "sagittal":
        return None
    return one.geometry.centre_mm[0]


def _middle_mm(x_mm: Sequence[float]) -> float | None:
    """None where there is none, or where it is doubtful."""
    if not x_mm:
        return None
    middle = (min(x_mm) + max(x_mm)) / 2
    doubtful = abs(middle - float(np.median(x_mm))) > LARGEST_DISAGREEMENT_MM
    return None if doubtful else middle
