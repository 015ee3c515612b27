"""One picture of a patient, stored in each of the eight ways, with a geometry that says so.

Worked out from the picture and its geometry alone, without the code under test: whether two
stored pixels show the same anatomy is asked in the patient's millimetres.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom

WAYS = tuple(itertools.product((False, True), repeat=3))  # transposed, mirrored, upside down


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (..., rows, columns) and where they lie (PS3.3 C.7.6.2)."""

    pixels: np.ndarray
    along_row: np.ndarray  # direction in which the column index grows
    along_column: np.ndarray
    position_mm: np.ndarray  # of the first pixel's centre
    spacing_mm: tuple[float, float]  # between rows, between columns

    @classmethod
    def of(
        cls, pixels: np.ndarray, orientation: np.ndarray | list[float], **where: object
    ) -> Picture:
        """A picture with unit directions at the origin, 1 mm a pixel unless told otherwise."""
        cosines = np.asarray(orientation, float)
        plain = {"position_mm": np.zeros(3), "spacing_mm": (1.0, 1.0)} | where
        return cls(pixels, cosines[:3], cosines[3:], **plain)  # type: ignore[arg-type]

    @classmethod
    def read(cls, dataset: pydicom.Dataset) -> Picture:
        return cls.of(
            dataset.pixel_array,
            np.array(dataset.ImageOrientationPatient, float),
            position_mm=np.array(dataset.ImagePositionPatient, float),
            spacing_mm=tuple(map(float, dataset.PixelSpacing)),
        )

    def stored(self, way: tuple[bool, bool, bool]) -> Picture:
        """The same anatomy, stored in another way."""
        transposed, mirrored, upside_down = way
        one = self._transposed() if transposed else self
        one = one._mirrored() if mirrored else one
        return one._transposed()._mirrored()._transposed() if upside_down else one

    def mm(self, x: float, y: float) -> np.ndarray:
        """Where a place of the picture lies in the patient."""
        between_rows, between_columns = self.spacing_mm
        along = x * between_columns * self.along_row + y * between_rows * self.along_column
        return np.asarray(self.position_mm + along)

    def place_of(self, mm: np.ndarray) -> tuple[float, float]:
        """The inverse of ``mm``, for directions that are perpendicular."""
        between_rows, between_columns = self.spacing_mm
        off = mm - self.position_mm
        x, y = off @ self.along_row / between_columns, off @ self.along_column / between_rows
        return float(x), float(y)

    def elements(self) -> dict[str, object]:
        """As DICOM has them: 16 characters a number."""
        return {
            "ImageOrientationPatient": _decimals(*self.along_row, *self.along_column),
            "ImagePositionPatient": _decimals(*self.position_mm),
            "PixelSpacing": _decimals(*self.spacing_mm),
        }

    def _transposed(self) -> Picture:
        return replace(
            self,
            pixels=np.swapaxes(self.pixels, -1, -2),
            along_row=self.along_column,
            along_column=self.along_row,
            spacing_mm=self.spacing_mm[::-1],
        )

    def _mirrored(self) -> Picture:
        last = self.pixels.shape[-1] - 1
        return replace(
            self,
            pixels=self.pixels[..., ::-1],
            along_row=-self.along_row,
            position_mm=self.mm(last, 0),
        )


def _decimals(*numbers: float) -> list[str]:
    return [f"{number:.10f}" for number in numbers]


def store_in_another_way(path: Path, way: tuple[bool, bool, bool]) -> tuple[Picture, Picture]:
    """Rewrite a file of one frame; what it showed before, and what it shows now."""
    dataset = pydicom.dcmread(path)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress()
    before = Picture.read(dataset)
    after = before.stored(way)
    dataset.Rows, dataset.Columns = after.pixels.shape
    dataset.PixelData = np.ascontiguousarray(after.pixels).tobytes()
    for keyword, value in after.elements().items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return before, after
