"""Stored pixels -> square uint8 slice: the only preprocessing in the project.

Training writes its images with it, the runtime feeds the detectors with it, and the PyTorch
baseline is given the same squares. Its parameters live in the bundle.

The window is taken per slice from the slice's own percentiles, so an affine rescale changes
nothing but, where its slope is negative, the direction of grey: window(a x + b) = window(x) for
a > 0, and 255 - window(x) for a < 0. MONOCHROME1 turns it once more. Hence stored integers are
mapped by integer arithmetic and no float image is ever made.

The window does not ask where a pixel lies, so it is taken of the picture as stored, and the grey
picture is turned upright: a byte a pixel to move instead of two, and none where it stands already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.turning import AS_STORED, Turn

PixelArray = NDArray[Any]  # integers of 8 or 16 bits, (rows, columns)

SAMPLE_EVERY = 64  # pixels; measured: 16 to 128 are alike


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Parameters of the one preprocessing; 0 and 100 percent make it a min-max window."""

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
    """Stored values, both limits among them, of pixels that are no image."""

    low: int
    high: int

    def mask(self, pixels: PixelArray) -> NDArray[np.bool_] | None:
        """Which pixels are padding; None where none is."""
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
    """Where an image of (rows, columns) lies inside its square of size_px, in whole pixels.

    ``rows`` and ``columns`` are those of the file; ``turn`` is how it is turned before it is laid
    into the square. What is laid there has ``upright_rows`` and ``upright_columns``.
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
        """(x, y) of the file -> (x, y) of the square; pixels, centres at whole numbers."""
        across, down = self.turn.to_upright(x, y, self.rows, self.columns)
        return (
            (across + 0.5) * self.width / self.upright_columns - 0.5 + self.left,
            (down + 0.5) * self.height / self.upright_rows - 0.5 + self.top,
        )

    def to_image(self, x: float, y: float) -> tuple[float, float]:
        """The inverse of :meth:`to_square`; a place in the borders lies outside the file's rows."""
        across = (x - self.left + 0.5) * self.upright_columns / self.width - 0.5
        down = (y - self.top + 0.5) * self.upright_rows / self.height - 0.5
        return self.turn.to_stored(across, down, self.rows, self.columns)

    def nearest_in_image(self, x: float, y: float) -> tuple[float, float]:
        """(x, y) of the square -> (x, y) of the file, from 0 to its last column and row."""
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
        inverted: 255 stands for the lowest value (MONOCHROME1, or a negative rescale slope).
        padding: what counts for no percentile and becomes 0, inverted or not.

    Returns:
        (rows, columns) uint8. A percentile is the smallest value that at least this share of the
        pixels does not exceed. A constant slice becomes 0 (255 where inverted).
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
    """255 (x - low) / (high - low), clipped, rounded half up: whole numbers all the way.

    floor((510 (x - low) + span) / (2 span)) in uint32, which the largest span of 65,535 does not
    overflow. 510 x + (span - 510 low) is the same without a difference of its own: what wraps
    around, wraps back. Five passes of whole vectors beat a table, whose look-ups go one by one.
    """
    span = max(1, high - low)
    bound = pixels.dtype.type  # a Python integer makes numpy look at every pixel once more
    grey = np.clip(pixels, bound(low), bound(high)).astype(np.uint32)
    grey *= np.uint32(510)
    grey += np.uint32((span - 510 * low) % 2**32)
    grey //= np.uint32(2 * span)
    return grey.astype(np.uint8)


def _limits(pixels: PixelArray, parameters: Preprocessing) -> tuple[int, int]:
    """The two percentiles of a slice, exactly."""
    values = pixels.ravel()
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    sample = np.sort(values[::SAMPLE_EVERY], kind="stable")  # radix sort: as fast everywhere
    low, high = (
        max(1, int(np.ceil(len(values) * percentile / 100)))
        for percentile in (parameters.low_percentile, parameters.high_percentile)
    )
    return _smallest(values, sample, low), _largest(values, sample, len(values) + 1 - high)


def _smallest(values: PixelArray, sample: PixelArray, rank: int) -> int:
    """The rank-th smallest value, rank 1 being the smallest.

    The sample names a value that is most likely not below it. Mostly few pixels are lower still,
    and only these are sorted. Where fewer than rank are lower, that value is the one (as where it
    fills the background), or the sample misled and all are sorted.
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
    """The rank-th largest value, as :func:`_smallest`."""
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
    """Twice the share and eight: of 20 pixels expected, 48 are never fewer by chance."""
    return 2 * rank * len(sample) // len(values) + 8


def to_square(image: NDArray[np.uint8], size_px: int, pad_value: int) -> NDArray[np.uint8]:
    """Fit an image into a square, keeping its aspect, centred, the rest filled with pad_value.

    Args:
        image: (rows, columns) uint8.
        size_px: side of the square.
        pad_value: grey of the borders.

    Returns:
        (size_px, size_px) uint8. Bilinear with antialiasing, in Pillow's fixed-point arithmetic,
        so the same on every machine.
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
