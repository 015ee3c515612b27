"""Labelled point -> box in the square slice, as a line of a YOLO label file."""

from __future__ import annotations

from dataclasses import dataclass

from rsna_lumbar.runtime.core.preprocess import Placement

# Two cells of the finest grid. Smaller boxes are rarely assigned to a cell, so they teach little.
# The method's boxes are smaller than this in squares below 308 px.
LEAST_BOX_PX = 16.0

UNITS = ("mm", "px", "share")


@dataclass(frozen=True, slots=True)
class BoxSize:
    """Side of a box: a share of the image's sides, pixels of the square, or millimetres."""

    value: float
    unit: str = "share"

    def __post_init__(self) -> None:
        if self.unit not in UNITS or not 0 < self.value < float("inf"):
            raise ValueError(f"{self.value:g} {self.unit} is not a size of a box")
        if self.unit == "share" and self.value > 1:
            raise ValueError(f"a box of {self.value:g} images is too large; write px or mm")

    def sides_px(
        self, place: Placement, spacing_mm: tuple[float, float] | None
    ) -> tuple[float, float]:
        """Width and height in pixels of the square.

        Args:
            place: where the image lies in the square.
            spacing_mm: between rows and between columns as stored; needed for millimetres.
        """
        if self.unit == "px":
            return self.value, self.value
        if self.unit == "share":
            return self.value * place.width, self.value * place.height
        if spacing_mm is None:
            raise ValueError("millimetres without a pixel spacing")
        between_rows, between_columns = place.turn.pair(spacing_mm)
        return (
            self.value / between_columns * place.width / place.upright_columns,
            self.value / between_rows * place.height / place.upright_rows,
        )


# The method's boxes, in its images of 384 px.
METHOD_BOX = {
    "spinal": BoxSize(20 / 384),
    "foraminal": BoxSize(40 / 384),
    "subarticular": BoxSize(20 / 384),
}


def parse_box_size(text: str) -> BoxSize:
    """``20/384`` or ``0.05`` (a share of the image), ``20px`` (of the square), ``12mm``.

    Raises:
        ValueError: the text is none of these.
    """
    unit = next((unit for unit in ("px", "mm") if text.endswith(unit)), "share")
    number = text if unit == "share" else text.removesuffix(unit)
    above, _, below = number.partition("/")
    try:
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is not a size of a box, such as 20/384, 20px or 12mm") from None
    return BoxSize(value, unit)


@dataclass(frozen=True, slots=True)
class Point:
    """A labelled point; (x, y) in pixels of the image as stored, centres at whole numbers."""

    class_index: int
    x: float
    y: float

    def lies_in(self, rows: int, columns: int) -> bool:
        return -0.5 <= self.x <= columns - 0.5 and -0.5 <= self.y <= rows - 0.5


def label_line(
    point: Point, place: Placement, sides_px: tuple[float, float], least_px: float
) -> str:
    """``class x y width height`` in shares of the square; the box is clipped to the image.

    Args:
        point: the centre of the box before it is clipped.
        place: where the image lies in the square.
        sides_px: width and height of the box, pixels of the square.
        least_px: smallest side of a box before it is clipped.

    YOLO measures from the border of the first pixel, which is at -0.5 in the point's coordinates.
    """
    x, y = place.to_square(point.x, point.y)
    wide, high = (max(least_px, side) for side in sides_px)
    left, right = _clipped(x + 0.5, wide, place.left, place.width)
    top, bottom = _clipped(y + 0.5, high, place.top, place.height)
    centre_and_size = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    return " ".join(
        [str(point.class_index), *(f"{value / place.size_px:.6f}" for value in centre_and_size)]
    )


def _clipped(centre: float, extent: float, start: int, length: int) -> tuple[float, float]:
    return max(start, centre - extent / 2), min(start + length, centre + extent / 2)
