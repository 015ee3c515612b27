"""The one preprocessing, against the plain definition of its algebra in float64."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rsna_lumbar.runtime.core.preprocess import (
    SAMPLE_EVERY,
    Placement,
    Preprocessing,
    square_slice,
    to_square,
    window,
)
from rsna_lumbar.runtime.core.turning import Turn

KINDS = [np.uint16, np.int16, np.uint8, np.int8, np.dtype(">u2"), np.dtype(">i2")]
PIXELS = hnp.arrays(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)


def plain_window(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Between two order statistics, in exact float64, rounded half up."""
    ordered = np.sort(pixels.astype(np.float64), axis=None)
    bottom = ordered[max(1, int(np.ceil(len(ordered) * low / 100))) - 1]
    top = ordered[max(1, int(np.ceil(len(ordered) * high / 100))) - 1]
    if bottom == top:
        return np.zeros(pixels.shape, np.uint8)
    unit = (np.clip(pixels.astype(np.float64), bottom, top) - bottom) / (top - bottom)
    return np.floor(unit * 255 + 0.5).astype(np.uint8)


@given(PIXELS, st.floats(0, 49), st.floats(51, 100))
def test_window_is_the_plain_definition(pixels: np.ndarray, low: float, high: float) -> None:
    got = window(pixels, Preprocessing(low, high), inverted=False)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, plain_window(pixels, low, high))


@given(st.randoms(use_true_random=False), st.sampled_from(KINDS), st.floats(0, 49))
def test_window_of_whole_slices(dice: random.Random, kind: np.dtype, low: float) -> None:
    """Large enough to be sampled: noise, spikes that fill the slice, and a sample that misleads."""
    rng = np.random.default_rng(dice.randrange(2**32))
    limits = np.iinfo(kind)
    pixels = rng.integers(limits.min, limits.max, (70, 90), dtype=np.int32, endpoint=True)
    pixels //= dice.choice((1, 20, 500))
    spike = rng.random(pixels.shape) < dice.choice((0, 0.004, 0.3, 0.9))
    pixels[spike] = dice.choice((limits.min, 0, limits.max))
    if dice.random() < 0.5:
        pixels.reshape(-1)[::SAMPLE_EVERY] = dice.choice((limits.min, 0, limits.max))
    high = dice.choice((51, 99.5, 99.99, 100))
    got = window(pixels.astype(kind), Preprocessing(low, high), inverted=False)
    np.testing.assert_array_equal(got, plain_window(pixels, low, high))


def test_the_whole_range_of_16_bits_is_rounded_exactly() -> None:
    """Every value there is, so every rounding of the largest span there is."""
    for kind in (np.uint16, np.int16):
        pixels = np.arange(65536).reshape(256, 256).astype(np.uint16).view(kind)
        got = window(pixels, Preprocessing(0, 100), inverted=False)
        np.testing.assert_array_equal(got, plain_window(pixels, 0, 100))


@pytest.mark.parametrize("span", [1, 2, 3, 254, 255, 256, 509, 510, 511, 4095, 65534])
def test_every_step_of_a_span_is_rounded_half_up(span: int) -> None:
    pixels = np.arange(span + 1, dtype=np.uint16)[None]
    got = window(pixels, Preprocessing(0, 100), inverted=False)
    np.testing.assert_array_equal(got, plain_window(pixels, 0, 100))


def test_a_read_only_slice_stays_as_it_is() -> None:
    pixels = np.frombuffer(bytes(range(200)), np.uint16).reshape(10, 10)
    before = pixels.copy()
    window(pixels, Preprocessing(), inverted=True)
    np.testing.assert_array_equal(pixels, before)


@given(PIXELS)
def test_inverted_is_255_minus(pixels: np.ndarray) -> None:
    upright = window(pixels, Preprocessing(), inverted=False)
    np.testing.assert_array_equal(window(pixels, Preprocessing(), inverted=True), 255 - upright)


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (3, 7)])
def test_a_rescale_changes_nothing(slope: int, intercept: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (31, 17)).astype(np.int16)
    rescaled = (pixels * slope + intercept).astype(np.int16)
    expected = window(pixels, Preprocessing(), inverted=False)
    np.testing.assert_array_equal(window(rescaled, Preprocessing(), inverted=False), expected)


@pytest.mark.parametrize(
    ("shape", "size_px", "expected"),
    [((100, 100), 64, (64, 64, 0, 0)), ((200, 100), 64, (64, 32, 0, 16)),
     ((5, 1000), 64, (1, 64, 31, 0)), ((30, 40), 64, (48, 64, 8, 0))],
)  # fmt: skip
def test_placement_keeps_the_aspect_and_centres(
    shape: tuple[int, int], size_px: int, expected: tuple[int, int, int, int]
) -> None:
    place = Placement(*shape, size_px)
    assert (place.height, place.width, place.top, place.left) == expected
    square = to_square(np.full(shape, 200, np.uint8), size_px, 114)
    assert square.shape == (size_px, size_px)
    assert (square == 200).sum() == place.height * place.width
    assert (square == 114).sum() == size_px**2 - place.height * place.width


TURNS = st.builds(Turn, *[st.booleans()] * 3)


@given(st.integers(1, 700), st.integers(1, 700), st.floats(0, 699), st.floats(0, 699), TURNS)
def test_placement_round_trip(rows: int, columns: int, x: float, y: float, turn: Turn) -> None:
    place = Placement(rows, columns, 384, turn)
    assert place.to_image(*place.to_square(x, y)) == pytest.approx((x, y), abs=1e-6)


@given(TURNS)
def test_a_bright_spot_lands_where_placement_says(turn: Turn) -> None:
    pixels = np.zeros((96, 48), np.uint8)
    pixels[70:74, 20:24] = 255
    square = square_slice(pixels, 192, Preprocessing(0, 100, 0), inverted=False, turn=turn)
    row, column = np.argwhere(square == square.max()).mean(axis=0)
    place = Placement(96, 48, 192, turn)
    assert place.to_square(21.5, 71.5) == pytest.approx((column, row), abs=0.5)
    assert place.to_image(column, row) == pytest.approx((21.5, 71.5), abs=0.25)


def test_an_image_of_the_right_size_passes_unchanged() -> None:
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    expected = window(pixels, Preprocessing(), inverted=False)
    np.testing.assert_array_equal(
        square_slice(pixels, 16, Preprocessing(), inverted=False), expected
    )


@pytest.mark.parametrize(("low", "high"), [(50, 50), (-1, 99), (1, 101)])
def test_percentiles_are_checked(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="percentiles"):
        Preprocessing(low, high)
