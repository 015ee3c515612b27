"""Solid shapes in the patient, as signed distances (negative inside, millimetres).

A shape has a bounding box, so that a slice looks only where the shape is, and gives the distance of
a window's pixels from its surface, with enough precision within a few millimetres of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rsna_lumbar.train.phantom.anatomy.plane import Field, Vector, Window
from rsna_lumbar.train.phantom.anatomy.tissues import Tissue

Table = npt.NDArray[np.floating[Any]]  # (heights,), a quantity at each of HEIGHTS_MM
Layers = tuple[tuple[float, Tissue], ...]  # from the surface inwards: depth in millimetres, tissue

HEIGHT_STEP_MM = 0.5
HEIGHTS_MM = np.arange(-200.0, 200.0, HEIGHT_STEP_MM)  # z of every table
_TINY = np.float32(1e-6)
AXES = np.eye(3)


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """A local coordinate system: rows of ``axes`` point left, posterior and superior."""

    origin_mm: Vector
    axes: npt.NDArray[np.float64]  # (3, 3), orthonormal

    def point(self, left: float, posterior: float, superior: float) -> Vector:
        """Patient coordinates of a local point."""
        return self.origin_mm + np.array([left, posterior, superior]) @ self.axes

    def moved(self, left: float, posterior: float, superior: float) -> Frame:
        return Frame(self.point(left, posterior, superior), self.axes)

    def turned(self, axis: int, degrees: float) -> Frame:
        """Rotated about one of its own axes (0 left, 1 posterior, 2 superior), right-handed."""
        first, second = (axis + 1) % 3, (axis + 2) % 3
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        axes = self.axes.copy()
        axes[first] = cosine * self.axes[first] + sine * self.axes[second]
        axes[second] = cosine * self.axes[second] - sine * self.axes[first]
        return Frame(self.origin_mm, axes)

    def local(self, window: Window) -> tuple[Field, Field, Field]:
        """Local coordinates (left, posterior, superior) of a window's pixels."""
        left, posterior, superior = (window.along(self.origin_mm, axis) for axis in self.axes)
        return left, posterior, superior


class Shape(Protocol):
    """A shape that can be painted."""

    def bounds(self) -> tuple[Vector, Vector]:
        """Centre and half size (mm) of the upright bounding box."""

    def distance(self, window: Window) -> Field:
        """Signed distance in millimetres, (rows, columns) of the window."""


@dataclass(frozen=True, slots=True)
class Framed:
    """A shape that fills a box of half sizes along the axes of its frame."""

    frame: Frame
    half_mm: tuple[float, float, float]

    def bounds(self) -> tuple[Vector, Vector]:
        return self.frame.origin_mm, np.array(self.half_mm) @ np.abs(self.frame.axes)


@dataclass(frozen=True, slots=True)
class Ellipsoid(Framed):
    def distance(self, window: Window) -> Field:
        scaled = [
            x / np.float32(r) for x, r in zip(self.frame.local(window), self.half_mm, strict=True)
        ]
        steep = [x / np.float32(r) for x, r in zip(scaled, self.half_mm, strict=True)]
        return _implicit(_norm(*scaled), _norm(*steep))


@dataclass(frozen=True, slots=True)
class Block(Framed):
    """A box with rounded edges; with a large ``round_mm``, a capsule."""

    round_mm: float

    def distance(self, window: Window) -> Field:
        rounding = np.float32(self.round_mm)
        outside = [
            np.abs(x) - np.float32(half - self.round_mm)
            for x, half in zip(self.frame.local(window), self.half_mm, strict=True)
        ]
        inside = np.minimum(np.maximum(np.maximum(outside[0], outside[1]), outside[2]), 0)
        return _norm(*(np.maximum(x, 0) for x in outside)) + inside - rounding


@dataclass(frozen=True, slots=True)
class Barrel(Framed):
    """A vertebral body or a disc: a flattened oval with a waist and hollow endplates."""

    waist: float = 0.0  # share by which the middle is narrower
    hollow: float = 0.0  # share by which the endplates' middle is lower
    round_mm: float = 2.0

    def distance(self, window: Window) -> Field:
        left, posterior, superior = self.frame.local(window)
        half_left, half_posterior, half_superior = (np.float32(half) for half in self.half_mm)
        height = np.minimum(np.abs(superior) / half_superior, np.float32(1))
        narrow = 1 - np.float32(self.waist) * (1 - height * height)
        # The posterior wall is flatter than the front: a power above 2 there, 2 in front.
        oval = _oval(np.abs(left) / half_left, posterior / half_posterior) / narrow
        sides = (oval - 1) * min(half_left, half_posterior) + np.float32(self.round_mm)
        plate = half_superior * (1 - np.float32(self.hollow) * np.maximum(1 - oval * oval, 0))
        ends = np.abs(superior) - plate + np.float32(self.round_mm)
        inside = np.minimum(np.maximum(sides, ends), 0)
        outside = _norm(np.maximum(sides, 0), np.maximum(ends, 0))
        return np.asarray(outside + inside - np.float32(self.round_mm))


@dataclass(frozen=True, eq=False, slots=True)
class Column:
    """A structure along the spine: an ellipse at every height z."""

    x_mm: Table  # centre
    y_mm: Table  # centre
    half_x_mm: Table
    half_y_mm: Table
    bottom_mm: float
    top_mm: float

    def bounds(self) -> tuple[Vector, Vector]:
        rows = slice(_row(self.bottom_mm), _row(self.top_mm) + 1)
        low, high = np.zeros(3), np.zeros(3)
        for axis, middle, half in ((0, self.x_mm, self.half_x_mm), (1, self.y_mm, self.half_y_mm)):
            low[axis] = (middle[rows] - half[rows]).min()
            high[axis] = (middle[rows] + half[rows]).max()
        low[2], high[2] = self.bottom_mm, self.top_mm
        return (low + high) / 2, (high - low) / 2

    def distance(self, window: Window) -> Field:
        origin = np.zeros(3)
        x, y, z = (window.along(origin, axis) for axis in AXES)
        row = (z - np.float32(HEIGHTS_MM[0])) / np.float32(HEIGHT_STEP_MM) + np.float32(0.5)
        row = np.clip(row, 0, len(HEIGHTS_MM) - 1).astype(np.int32)
        half_x, half_y = self.half_x_mm[row], self.half_y_mm[row]
        across, deep = (x - self.x_mm[row]) / half_x, (y - self.y_mm[row]) / half_y
        surface = _implicit(_norm(across, deep), _norm(across / half_x, deep / half_y))
        middle, half = (self.top_mm + self.bottom_mm) / 2, (self.top_mm - self.bottom_mm) / 2
        return np.asarray(np.maximum(surface, np.abs(z - np.float32(middle)) - np.float32(half)))


@dataclass(frozen=True, eq=False, slots=True)
class Union:
    """All points inside at least one of the shapes."""

    shapes: tuple[Shape, ...]

    def bounds(self) -> tuple[Vector, Vector]:
        boxes = [shape.bounds() for shape in self.shapes]
        low = np.min([centre - half for centre, half in boxes], axis=0)
        high = np.max([centre + half for centre, half in boxes], axis=0)
        return (low + high) / 2, (high - low) / 2

    def distance(self, window: Window) -> Field:
        nearest = self.shapes[0].distance(window)
        for shape in self.shapes[1:]:
            nearest = np.minimum(nearest, shape.distance(window))
        return nearest


@dataclass(frozen=True, slots=True)
class Solid:
    """A shape and its tissues."""

    shape: Shape
    layers: Layers


def table(values: npt.ArrayLike) -> Table:
    """A quantity at each of HEIGHTS_MM, float32; a number becomes a constant quantity."""
    return np.broadcast_to(np.asarray(values, np.float32), HEIGHTS_MM.shape)


def column(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    half_x: npt.ArrayLike,
    half_y: npt.ArrayLike,
    *,
    bottom_mm: float = float(HEIGHTS_MM[0]),
    top_mm: float = float(HEIGHTS_MM[-1]),
) -> Column:
    """A column from numbers, or from quantities at each of HEIGHTS_MM."""
    return Column(table(x), table(y), table(half_x), table(half_y), bottom_mm, top_mm)


def _row(height_mm: float) -> int:
    return int(np.clip((height_mm - HEIGHTS_MM[0]) / HEIGHT_STEP_MM, 0, len(HEIGHTS_MM) - 1))


def _norm(*parts: Field) -> Field:
    total = parts[0] * parts[0]
    for part in parts[1:]:
        total = total + part * part
    return np.sqrt(total)


def _implicit(value: Field, slope: Field) -> Field:
    """Distance from the surface ``value == 1`` of an ellipsoid: k0 (k0 - 1) / k1 (I. Quilez)."""
    return np.asarray(value * (value - 1) / np.maximum(slope, _TINY))


def _oval(left: Field, posterior: Field) -> Field:
    """Radius (1 on the outline) of a vertebral body's axial outline: round front, flat back."""
    square, deep = left * left, posterior * posterior
    behind = posterior > 0
    fourth = square * square + deep * deep + (~behind) * np.float32(1.2) * square * deep
    return np.sqrt(np.sqrt(fourth))
