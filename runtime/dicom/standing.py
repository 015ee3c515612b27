"""Direction cosines -> the turn that makes a stored picture stand as the patient does.

Patient axes are LPS: +x to the left, +y to the back, +z to the head. ImageOrientationPatient
(PS3.3 C.7.6.2.1.1) gives the direction in which the column index grows, then the direction in which
the row index grows. Training images, and nearly all images from scanners, have

                columns grow to     rows grow to
    axial       the left  (+x)      the back  (+y)
    sagittal    the back  (+y)      the feet  (-z)

Of the eight turns, the one is chosen whose two directions agree best with these, by the sum of the
cosines. For an axial or sagittal plane neither cosine is then near zero, even if it is very
oblique: in the plane of two patient axes the directions span at least half of a unit square.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from operator import itemgetter

import numpy as np

from rsna_lumbar.runtime.core.turning import AS_STORED, Turn
from rsna_lumbar.runtime.dicom.header import Vector
from rsna_lumbar.runtime.dicom.series_kind import plane_of

Axis = tuple[int, int]  # a patient axis, and the sign of the direction along it
UPRIGHT: Mapping[str, tuple[Axis, Axis]] = {  # directions in which columns and rows grow
    "axial": ((0, 1), (1, 1)),
    "sagittal": ((1, 1), (2, -1)),
}
# Two directions of a picture are perpendicular; nearly parallel ones are not an orientation.
LEAST_SINE = 0.5
DIGITS = 6  # smaller differences come from rounding in the file


@lru_cache(maxsize=4096)  # the slices of a stack share their orientation
def standing(orientation: Vector | None) -> Turn | None:
    """The turn that makes a picture upright; coronal ones, which no detector reads, stay as stored.

    A picture and its mirrored, upside-down and transposed copies all become the same picture. Two
    turns agree equally well if the picture is rotated in its plane by 45 degrees to either side;
    then the one is chosen whose columns grow towards the direction that its rows should have.

    ``orientation`` is six direction cosines in patient axes. None without an orientation, or with
    one that no picture can have.
    """
    if orientation is None or not _spans_a_plane(orientation):
        return None
    upright = UPRIGHT.get(plane_of(orientation))
    if upright is None:
        return AS_STORED
    return max(_agreements(orientation, *upright), key=itemgetter(0, 1))[2]


def _agreements(
    orientation: Vector, wanted_across: Axis, wanted_down: Axis
) -> Iterator[tuple[float, float, Turn]]:
    """How well rows and columns agree, unchanged and exchanged, each with the best signs."""
    first, second = orientation[:3], orientation[3:]
    for transposed, across, down in ((False, first, second), (True, second, first)):
        right, below = _along(across, wanted_across), _along(down, wanted_down)
        lean = _along(across, wanted_down)
        turn = Turn(transposed, mirrored=right < 0, upside_down=below < 0)
        yield round(abs(right) + abs(below), DIGITS), -lean if right < 0 else lean, turn


def _along(direction: Vector, axis: Axis) -> float:
    number, sign = axis
    return sign * direction[number]


def _spans_a_plane(orientation: Vector) -> bool:
    first, second = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return bool(np.linalg.norm(np.cross(first, second)) > LEAST_SINE * lengths)
