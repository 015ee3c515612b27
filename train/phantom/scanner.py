"""The effects of the scanner: coil shading, noise, gain and 12 bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rsna_lumbar.train.phantom.anatomy.plane import Field, Plane

STORED_BITS = 12
_LARGEST = 2**STORED_BITS - 1
_AIR = np.float32(0.03)  # signal (1 is fat) below which there is no tissue: scanners zero it


@dataclass(frozen=True, slots=True)
class Receiver:
    """Settings of a study's scanner."""

    gain: float  # stored value of the signal 1
    noise: float  # standard deviation, as a share of the signal 1
    shading: float  # how much brighter the back is than the front, per metre


def draw_receiver(rng: np.random.Generator, noise: float) -> Receiver:
    return Receiver(
        gain=float(rng.uniform(500, 2200)),
        noise=noise * float(rng.uniform(0.8, 1.3)),
        shading=float(rng.uniform(1.5, 4.0)),
    )


def draw_texture(rng: np.random.Generator, plane: Plane) -> Field:
    """Uneven tissue, (rows, columns), about unit variance: coarse (12 mm) and fine (3 mm)."""
    coarse = _smooth_field(rng, plane, 12.0)
    return np.float32(0.9) * coarse + np.float32(0.9) * _smooth_field(rng, plane, 3.0)


def acquire(
    signal: Field, plane: Plane, receiver: Receiver, rng: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """Stored values (rows, columns): magnitude of shaded signal plus complex noise (Rician)."""
    rows = np.arange(plane.rows, dtype=np.float32)[:, None] * np.float32(plane.along_column[1])
    columns = np.arange(plane.columns, dtype=np.float32)[None] * np.float32(plane.along_row[1])
    back_mm = np.float32(plane.origin_mm[1]) + np.float32(plane.spacing_mm) * (rows + columns)
    bias = np.exp(np.float32(receiver.shading / 1000) * (back_mm - 20))
    bias = bias * (1 + np.float32(0.05) * _smooth_field(rng, plane, 80.0))
    real, imaginary = rng.standard_normal((2, *signal.shape), dtype=np.float32)
    noise = np.float32(receiver.noise)
    magnitude = np.hypot(_blur(signal * bias + noise * real), noise * imaginary)
    magnitude[signal < _AIR * 0.3] *= _AIR
    stored = np.minimum(magnitude * np.float32(receiver.gain) + np.float32(0.5), _LARGEST)
    return np.asarray(stored.astype(np.uint16))


def _blur(image: Field) -> Field:
    """Slight smoothing along both axes: the pixels of a scanner are not independent."""
    centre, side = np.float32(0.76), np.float32(0.12)
    smooth: Field = image * centre
    smooth[1:] += side * image[:-1]
    smooth[:-1] += side * image[1:]
    result: Field = smooth * centre
    result[:, 1:] += side * smooth[:, :-1]
    result[:, :-1] += side * smooth[:, 1:]
    return result


def _smooth_field(rng: np.random.Generator, plane: Plane, period_mm: float) -> Field:
    """Random (rows, columns) of about unit variance: a cubic B-spline with random knots.

    Each pixel mixes four knots per axis. Written as four sums, not as a matrix product: BLAS spins
    its threads on products this small, and its last bits differ between machines.
    """
    step = max(1.0, period_mm / plane.spacing_mm)
    row, row_weights = _spline(plane.rows, step)
    column, column_weights = _spline(plane.columns, step)
    knots = rng.standard_normal((row[-1] + 4, column[-1] + 4), dtype=np.float32)
    down = _mixed(knots, row, row_weights)  # (rows, knots)
    across = _mixed(down.T, column, column_weights)  # (columns, rows)
    return np.ascontiguousarray(across.T) * np.float32(_SPLINE_GAIN)


# A cubic B-spline's weights have a mean square of 0.48 (151/315), once per axis.
_SPLINE_GAIN = 315 / 151


@lru_cache(maxsize=64)
def _spline(pixels: int, step: float) -> tuple[npt.NDArray[np.int64], Field]:
    """A uniform cubic B-spline, knots ``step`` pixels apart, the first one step before pixel 0.

    Returns the first of the four knots around each pixel (pixels,), and their weights (4, pixels).
    """
    position = np.arange(pixels) / step
    first = position.astype(np.int64)
    away = np.abs(position - first - np.arange(-1, 3)[:, None])  # (4, pixels)
    near, far = 2 / 3 - away**2 + away**3 / 2, np.maximum(2 - away, 0) ** 3 / 6
    return first, np.where(away < 1, near, far).astype(np.float32)


def _mixed(knots: Field, first: npt.NDArray[np.int64], weights: Field) -> Field:
    """(knots, n) -> (pixels, n)."""
    one, two, three, four = (w[:, None] * knots[first + k] for k, w in enumerate(weights))
    return np.asarray(one + two + three + four)
