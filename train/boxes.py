"""Labelled point -> box in the square slice, as a line of a YOLO label file."""

from __future__ import annotations

from dataclasses import dataclass

from rsna_lumbar.runtime.preprocess import Placement

# Side of a box as a share of the image's axis: the method's own, in pixels of its 384.
BOX_FRACTION = {"spinal": 20 / 384, "foraminal": 40 / 384, "subarticular": 20 / 384}

# Two cells of the finest grid. Smaller boxes are hardly ever assigned to a cell, so that little is
# learnt of them; it matters for squares below 308 px, where the method's are smaller.
LEAST_BOX_PX = 16.0


@dataclass(frozen=True, slots=True)
class Point:
    """A labelled point; (x, y) in pixels of the image as stored, centres at whole numbers."""

    class_index: int
    x: float
    y: float

    def lies_in(self, rows: int, columns: int) -> bool:
        return -0.5 <= self.x <= columns - 0.5 and -0.5 <= self.y <= rows - 0.5


def label_line(point: Point, place: Placement, fraction: float, least_px: float) -> str:
    """``class x y width height``, in shares of the square, the box clipped to the image.

    The box is ``fraction`` of the image's axes, yet not smaller than ``least_px`` of the square.
    YOLO measures from the border of the first pixel, where our centre has -0.5.
    """
    x, y = place.to_square(point.x, point.y)
    left, right = _clipped(x + 0.5, max(least_px, fraction * place.width), place.left, place.width)
    top, bottom = _clipped(y + 0.5, max(least_px, fraction * place.height), place.top, place.height)
    centre_and_size = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    return " ".join(
        [str(point.class_index), *(f"{value / place.size_px:.6f}" for value in centre_and_size)]
    )


def _clipped(centre: float, extent: float, start: int, length: int) -> tuple[float, float]:
    return max(start, centre - extent / 2), min(start + length, centre + extent / 2)
