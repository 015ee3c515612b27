"""The plane of a slice in the patient.

Millimetres, patient coordinates LPS (+x left, +y posterior, +z superior), as in DICOM's Image Plane
module (PS3.3 C.7.6.2). Pixel centres are at whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsna_lumbar.runtime.dicom.slices import Slice

Points = NDArray[np.float64]  # (n, 3), mm


class _Placed(Protocol):
    """What has a position in the patient."""

    @property
    def frame_of_reference_uid(self) -> str: ...


def one_frame(placed: Iterable[_Placed]) -> bool:
    """Whether all positions compare: no two name different frames of reference."""
    return len({one.frame_of_reference_uid for one in placed} - {""}) <= 1


@dataclass(frozen=True, eq=False, slots=True)
class SlicePlane:
    """A slice: the centre of its picture, its two unit directions, its pixels."""

    centre_mm: NDArray[np.float64]  # (3,)
    along_row: NDArray[np.float64]  # (3,), where the column index grows
    along_column: NDArray[np.float64]  # (3,), where the row index grows
    spacing_mm: tuple[float, float]  # between rows, between columns
    rows: int
    columns: int
    frame_of_reference_uid: str = ""  # empty if not known

    @classmethod
    def of(cls, one: Slice) -> Self | None:
        """The plane of a decoded slice; None if its header has no position or no spacing."""
        if one.geometry is None or one.spacing_mm is None:
            return None
        along_row, along_column = np.reshape(one.geometry.orientation, (2, 3)).astype(np.float64)
        centre = np.array(one.geometry.centre_mm, np.float64)
        return cls(
            centre,
            along_row,
            along_column,
            one.spacing_mm,
            one.rows,
            one.columns,
            one.geometry.frame_of_reference_uid,
        )

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) unit vector across the slice."""
        across = np.cross(self.along_row, self.along_column)
        return np.asarray(across / np.linalg.norm(across), np.float64)

    def point_mm(self, x: float, y: float) -> NDArray[np.float64]:
        """(3,) position in the patient of column ``x`` and row ``y`` of the file."""
        between_rows, between_columns = self.spacing_mm
        right = (x - (self.columns - 1) / 2) * between_columns
        down = (y - (self.rows - 1) / 2) * between_rows
        return self.centre_mm + right * self.along_row + down * self.along_column

    def beyond_mm(self, points: ArrayLike, axis: int) -> NDArray[np.float64]:
        """Distance of the plane from points, along its normal.

        Args:
            points: (n, 3) millimetres.
            axis: patient axis (0, 1, 2) whose positive side counts as positive.

        Returns:
            (n,) millimetres, positive if the plane lies on the positive side of the point.
        """
        normal = self.normal * (-1.0 if self.normal[axis] < 0 else 1.0)
        return np.asarray((self.centre_mm - np.asarray(points)) @ normal, np.float64)
