"""Stored pixels -> square uint8 slice: the only preprocessing in the project.

Training writes its images with it, the runtime feeds the detectors with it, and the PyTorch
baseline gets the same squares. Its parameters are in the bundle.

The window comes from each slice's own percentiles, so an affine rescale has no effect except,
if its slope is negative, on the direction of grey: window(a x + b) = window(x) for a > 0, and
255 - window(x) for a < 0. MONOCHROME1 inverts it once more. Therefore stored integers are mapped
by integer arithmetic, and no float image is made.

The window does not depend on where a pixel is. It is therefore applied to the picture as stored,
and the grey picture is turned upright afterwards: this moves one byte per pixel instead of two,
and none if the picture is already upright.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.turning import AS_STORED, Turn

PixelArray = NDArray[Any]  # integers of 8 or 16 bits, (rows, columns)

SAMPLE_EVERY = 64  # pixels; measured: 16 to 128 perform alike


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Parameters of the one preprocessing; percentiles 0 and 100 make a min-max window."""

    low_percentile: float = 0.5
    high_percentile: float = 99.5
    pad_value: int = 114  # the grey of ultralytics' own borders

    def __post_init__(self) -> None:
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise ValueError("percentiles must satisfy 0 <= low < high <= 100")
        if not 0 <= self.pad_value <= 255:
            raise ValueError("pad_value must lie in 0..255")


@dataclass(frozen=True, slots=True)
class Padding:
    """Range of stored values, both limits included, that mark pixels outside the image."""

    low: int
    high: int

    def mask(self, pixels: PixelArray) -> NDArray[np.bool_] | None:
        """Mask of the padding pixels; None if there are none."""
        limits = np.iinfo(pixels.dtype)
        low, high = max(self.low, int(limits.min)), min(self.high, int(limits.max))
        if low > high:
            return None
        bound = pixels.dtype.type
        if low == high:
            mask = pixels == bound(low)
        else:
            mask = (pixels >= bound(low)) & (pixels <= bound(high))
        return mask if mask.any() else None


@dataclass(frozen=True, slots=True)
class Placement:
    """Position of an image of (rows, columns) inside its square of size_px, in whole pixels.

    ``rows`` and ``columns`` are those of the file; ``turn`` is how the image is turned before it is
    placed in the square. The turned image has ``upright_rows`` and ``upright_columns``.
    """

    rows: int
    columns: int
    size_px: int
    turn: Turn = AS_STORED

    @property
    def upright_rows(self) -> int:
        return self.turn.pair((self.rows, self.columns))[0]

    @property
    def upright_columns(self) -> int:
        return self.turn.pair((self.rows, self.columns))[1]

    @property
    def height(self) -> int:
        return self._scaled(self.upright_rows)

    @property
    def width(self) -> int:
        return self._scaled(self.upright_columns)

    @property
    def top(self) -> int:
        return (self.size_px - self.height) // 2

    @property
    def left(self) -> int:
        return (self.size_px - self.width) // 2

    def _scaled(self, extent: int) -> int:
        longest = max(self.rows, self.columns)
        return max(1, (2 * extent * self.size_px + longest) // (2 * longest))

    def to_square(self, x: float, y: float) -> tuple[float, float]:
        """(x, y) in the file -> (x, y) in the square; in pixels, pixel centres at whole numbers."""
        across, down = self.turn.to_upright(x, y, self.rows, self.columns)
        return (
            (across + 0.5) * self.width / self.upright_columns - 0.5 + self.left,
            (down + 0.5) * self.height / self.upright_rows - 0.5 + self.top,
        )

    def to_image(self, x: float, y: float) -> tuple[float, float]:
        """The inverse of :meth:`to_square`; a position in the borders is outside the image."""
        across = (x - self.left + 0.5) * self.upright_columns / self.width - 0.5
        down = (y - self.top + 0.5) * self.upright_rows / self.height - 0.5
        return self.turn.to_stored(across, down, self.rows, self.columns)

    def nearest_in_image(self, x: float, y: float) -> tuple[float, float]:
        """(x, y) in the square -> (x, y) in the file, clipped to the file's columns and rows."""
        x, y = self.to_image(x, y)
        return min(max(x, 0.0), self.columns - 1.0), min(max(y, 0.0), self.rows - 1.0)


def window(
    pixels: PixelArray,
    parameters: Preprocessing,
    *,
    inverted: bool,
    padding: Padding | None = None,
) -> NDArray[np.uint8]:
    """Map stored integers to 0..255 between two percentiles of the slice.

    Args:
        pixels: (rows, columns), integers of 8 or 16 bits, signed or not; not empty.
        parameters: the two percentiles.
        inverted: 255 corresponds to the lowest value (MONOCHROME1, or a negative rescale slope).
        padding: pixels that are ignored by the percentiles and become 0, inverted or not.

    Returns:
        (rows, columns) uint8. A percentile is the smallest value such that at least this share of
        the pixels does not exceed it. A constant slice becomes 0 (255 if inverted).
    """
    mask = None if padding is None else padding.mask(pixels)
    image = pixels if mask is None else pixels[~mask]
    if not image.size:
        return np.zeros(pixels.shape, np.uint8)
    grey = _between(pixels, *_limits(image, parameters))
    grey = np.invert(grey, out=grey) if inverted else grey
    if mask is not None:
        grey[mask] = 0
    return grey


def _between(pixels: PixelArray, low: int, high: int) -> NDArray[np.uint8]:
    """255 (x - low) / (high - low), clipped, rounded half up, in integer arithmetic.

    floor((510 (x - low) + span) / (2 span)) in uint32, which does not overflow for the largest
    span of 65,535. 510 x + (span - 510 low) gives the same without a separate subtraction: values
    that wrap around also wrap back. Five passes over whole vectors are faster than a lookup table,
    which is read value by value.
    """
    span = max(1, high - low)
    bound = pixels.dtype.type  # with a Python integer numpy would scan all pixels once more
    grey = np.clip(pixels, bound(low), bound(high)).astype(np.uint32)
    grey *= np.uint32(510)
    grey += np.uint32((span - 510 * low) % 2**32)
    grey //= np.uint32(2 * span)
    return grey.astype(np.uint8)


def _limits(pixels: PixelArray, parameters: Preprocessing) -> tuple[int, int]:
    """The two percentiles of a slice, exactly."""
    values = pixels.ravel()
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    sample = np.sort(values[::SAMPLE_EVERY], kind="stable")  # radix sort: equally fast for all data
    low, high = (
        max(1, int(np.ceil(len(values) * percentile / 100)))
        for percentile in (parameters.low_percentile, parameters.high_percentile)
    )
    return _smallest(values, sample, low), _largest(values, sample, len(values) + 1 - high)


def _smallest(values: PixelArray, sample: PixelArray, rank: int) -> int:
    """The rank-th smallest value, where rank 1 is the smallest.

    The sample suggests a value that is most likely not below the result. Usually few pixels are
    smaller than it, and only these are sorted. If fewer than ``rank`` pixels are smaller, the
    result is the suggested value itself (for example, the value of the background), or the sample
    was misleading and all pixels are sorted.
    """
    if rank == 1:
        return int(values.min())
    near = sample[min(_rank_in_sample(values, sample, rank), len(sample)) - 1]
    few = values[values < near]
    if len(few) < rank:
        if np.count_nonzero(values <= near) >= rank:
            return int(near)
        few = values
    return int(np.sort(few, kind="stable")[rank - 1])


def _largest(values: PixelArray, sample: PixelArray, rank: int) -> int:
    """The rank-th largest value; works like :func:`_smallest`."""
    if rank == 1:
        return int(values.max())
    near = sample[-min(_rank_in_sample(values, sample, rank), len(sample))]
    few = values[values > near]
    if len(few) < rank:
        if np.count_nonzero(values >= near) >= rank:
            return int(near)
        few = values
    return int(np.sort(few, kind="stable")[-rank])


def _rank_in_sample(values: PixelArray, sample: PixelArray, rank: int) -> int:
    """Twice the share plus 8: where 20 pixels are expected, 48 are never fewer by chance."""
    return 2 * rank * len(sample) // len(values) + 8


def to_square(image: NDArray[np.uint8], size_px: int, pad_value: int) -> NDArray[np.uint8]:
    """Fit a (rows, columns) uint8 image into a square, keeping its aspect, centred.

    Returns (size_px, size_px) uint8; the rest has the grey pad_value. Bilinear with antialiasing,
    in Pillow's fixed-point arithmetic, so the same on every machine.
    """
    from PIL import Image

    place = Placement(image.shape[0], image.shape[1], size_px)
    if image.shape != (place.height, place.width):
        picture = Image.fromarray(image).resize(
            (place.width, place.height), Image.Resampling.BILINEAR
        )
        image = np.asarray(picture)
    if place.height == place.width == size_px:
        return np.ascontiguousarray(image)
    square = np.full((size_px, size_px), pad_value, np.uint8)
    square[place.top : place.top + place.height, place.left : place.left + place.width] = image
    return square


def square_slice(
    pixels: PixelArray,
    size_px: int,
    parameters: Preprocessing,
    *,
    inverted: bool,
    padding: Padding | None = None,
    turn: Turn = AS_STORED,
) -> NDArray[np.uint8]:
    """Stored pixels (rows, columns) -> what a detector sees, (size_px, size_px) uint8."""
    grey = window(pixels, parameters, inverted=inverted, padding=padding)
    return to_square(turn.image(grey), size_px, parameters.pad_value)
