"""The position of a slice's pixels in the patient.

Millimetres, patient coordinates LPS (+x left, +y posterior, +z superior). Pixel (column 0, row 0)
has its centre at ``origin_mm``, as in DICOM's Image Plane module (PS3.3 C.7.6.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]  # (3,)
# (rows, columns), or broadcasts to it. Always float32, for speed; the type is wider because numpy's
# type arithmetic cannot express that.
Field = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class Plane:
    """A slice: the place of its first pixel, two unit directions and the size of its pixels."""

    origin_mm: Vector
    along_row: Vector  # where the column index grows: first triple of ImageOrientationPatient
    along_column: Vector  # where the row index grows: second triple
    spacing_mm: float
    rows: int
    columns: int

    @property
    def normal(self) -> Vector:
        return np.cross(self.along_row, self.along_column)

    def project(self, point_mm: Vector) -> tuple[float, float, float]:
        """``(x, y, distance)``: column and row in pixels, and millimetres along the normal."""
        offset = point_mm - self.origin_mm
        x = float(offset @ self.along_row) / self.spacing_mm
        y = float(offset @ self.along_column) / self.spacing_mm
        return x, y, float(offset @ self.normal)

    def contains(self, point_mm: Vector) -> bool:
        """Whether the point, projected along the normal, lies on a pixel."""
        x, y, _ = self.project(point_mm)
        return -0.5 <= x < self.columns - 0.5 and -0.5 <= y < self.rows - 0.5


def centred_plane(
    centre_mm: Vector,
    along_row: Vector,
    along_column: Vector,
    *,
    spacing_mm: float,
    shape: tuple[int, int],
) -> Plane:
    """The plane of ``shape`` (rows, columns) whose middle is ``centre_mm``."""
    rows, columns = shape
    corner = (columns - 1) / 2 * along_row + (rows - 1) / 2 * along_column
    return Plane(
        centre_mm - spacing_mm * corner, along_row, along_column, spacing_mm, rows, columns
    )


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """A rectangle of a plane's pixels: first (included) to last (excluded)."""

    plane: Plane
    row: slice
    column: slice

    def along(self, point_mm: Vector, direction: Vector) -> Field:
        """Signed distance of each pixel from a point, along a unit direction.

        Broadcastable: an axis along which the distance is constant has length 1, which makes
        upright slices several times faster.
        """
        plane = self.plane
        start = float((plane.origin_mm - point_mm) @ direction)
        per_row = float(plane.along_column @ direction) * plane.spacing_mm
        per_column = float(plane.along_row @ direction) * plane.spacing_mm
        return _ramp(self.row, per_row, start)[:, None] + _ramp(self.column, per_column, 0.0)


def _ramp(pixels: slice, step: float, start: float) -> Field:
    if abs(step) < 1e-9:
        return np.full(1, start, np.float32)
    steps = np.arange(pixels.start, pixels.stop, dtype=np.float32)
    return steps * np.float32(step) + np.float32(start)
