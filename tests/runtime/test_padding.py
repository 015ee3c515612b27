"""Pixels that are no image: what a header declares, and what becomes of them."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.uid import UID
from toys import SYNTAXES, slice_pixels, write_as, write_clinical_slice

from rsna_lumbar.runtime.api import Scorer
from rsna_lumbar.runtime.core.preprocess import Padding, Preprocessing, window
from rsna_lumbar.runtime.demo import demo_bundle, demo_studies
from rsna_lumbar.runtime.dicom.slices import read_frames, read_slices
from rsna_lumbar.runtime.studies.finder import find_studies

KINDS = [np.uint16, np.int16, np.uint8, np.int8, np.dtype(">u2"), np.dtype(">i2")]
PIXELS = hnp.arrays(
    st.sampled_from(KINDS), st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.integers(0, 12) | st.integers(100, 127),
)  # fmt: skip
BOUNDS = st.integers(-3, 130)


@given(PIXELS, BOUNDS, BOUNDS, st.floats(0, 49), st.booleans())
def test_padding_counts_for_no_percentile_and_is_black(
    pixels: np.ndarray, one: int, two: int, low: float, inverted: bool
) -> None:
    """The rest is as if it were alone in its picture."""
    padding, settings = Padding(min(one, two), max(one, two)), Preprocessing(low, 99.5)
    got = window(pixels, settings, inverted=inverted, padding=padding)
    is_padding = (pixels >= padding.low) & (pixels <= padding.high)
    assert got.shape == pixels.shape
    assert not got[is_padding].any()
    if not is_padding.all():
        alone = window(pixels[~is_padding][None], settings, inverted=inverted)
        np.testing.assert_array_equal(got[~is_padding], alone[0])


@pytest.mark.parametrize("padding", [Padding(-40000, -33000), Padding(70000, 80000), Padding(5, 4)])
def test_values_that_no_pixel_can_have_change_nothing(padding: Padding) -> None:
    for kind in KINDS:
        pixels = np.arange(120).reshape(10, 12).astype(kind)
        expected = window(pixels, Preprocessing(), inverted=False)
        got = window(pixels, Preprocessing(), inverted=False, padding=padding)
        np.testing.assert_array_equal(got, expected)


def with_circle(pixels: np.ndarray, value: int) -> np.ndarray:
    """Only what lies in the largest circle is image."""
    rows, columns = pixels.shape
    y, x = np.mgrid[:rows, :columns]
    outside = np.hypot((y + 0.5) / rows - 0.5, (x + 0.5) / columns - 0.5) > 0.5
    return np.where(outside, value, pixels).astype(pixels.dtype)


def declared(path: Path, pixels: np.ndarray, *elements: tuple[str, str, object]) -> Path:
    """A file with (keyword, VR, value) elements, whatever their VR should be."""
    dataset = write_clinical_slice(path, pixels)
    for keyword, vr, value in elements:
        dataset.add_new(keyword, vr, value)
    dataset.save_as(path)
    return path


VALUE, LIMIT = "PixelPaddingValue", "PixelPaddingRangeLimit"
UNSIGNED, SIGNED = np.dtype("<u2"), np.dtype("<i2")


@pytest.mark.parametrize(
    ("kind", "elements", "expected"),
    [
        (UNSIGNED, [], None),
        (UNSIGNED, [(VALUE, "US", 0)], None),  # air, as it was in training
        (UNSIGNED, [(VALUE, "US", 0), (LIMIT, "US", 3)], Padding(0, 3)),
        (SIGNED, [(VALUE, "SS", 0)], Padding(0, 0)),
        (UNSIGNED, [(VALUE, "US", 65535)], Padding(65535, 65535)),
        (UNSIGNED, [(VALUE, "SS", -2000)], Padding(63536, 63536)),  # the same bits
        (SIGNED, [(VALUE, "SS", -2000)], Padding(-2000, -2000)),
        (SIGNED, [(VALUE, "US", 63536)], Padding(-2000, -2000)),
        (SIGNED, [(VALUE, "SS", -32768), (LIMIT, "SS", -32000)], Padding(-32768, -32000)),
        (SIGNED, [(VALUE, "SS", -32000), (LIMIT, "US", 32768)], Padding(-32768, -32000)),
        (UNSIGNED, [(VALUE, "US", 9), (LIMIT, "US", 3)], Padding(3, 9)),
        (UNSIGNED, [(LIMIT, "US", 3)], None),  # means nothing alone
        (UNSIGNED, [(VALUE, "US", 9), (LIMIT, "US", None)], Padding(9, 9)),
        (UNSIGNED, [(VALUE, "US", None)], None),
        (UNSIGNED, [(VALUE, "US", [1, 2])], None),
        (UNSIGNED, [(VALUE, "IS", "17")], Padding(17, 17)),
        (SIGNED, [(VALUE, "DS", "-17.0")], Padding(-17, -17)),
        (SIGNED, [(VALUE, "SL", -17)], Padding(-17, -17)),
        (SIGNED, [(VALUE, "SL", -70000)], None),
        (UNSIGNED, [(VALUE, "OW", struct.pack("<H", 40000))], Padding(40000, 40000)),
        (UNSIGNED, [(VALUE, "OB", b"abcd")], None),
        (UNSIGNED, [(VALUE, "LO", "none at all")], None),
        (UNSIGNED, [(VALUE, "DS", "1e400")], None),
        (np.dtype("u1"), [(VALUE, "US", 255)], Padding(255, 255)),
        (np.dtype("u1"), [(VALUE, "US", 256)], None),
        (np.dtype("i1"), [(VALUE, "SS", -1)], Padding(-1, -1)),
    ],
)  # fmt: skip
def test_what_a_header_declares(
    tmp_path: Path,
    kind: np.dtype,
    elements: list[tuple[str, str, object]],
    expected: Padding | None,
) -> None:
    path = declared(tmp_path / "a.dcm", slice_pixels(1).astype(kind), *elements)
    (frame,) = read_frames(path)
    assert frame.padding == expected


@pytest.mark.parametrize(
    ("signed", "value", "expected"),
    [(1, 2048, -2048), (1, 63488, -2048), (1, 5000, None), (0, 4095, 4095), (0, 63536, None)],
)
def test_a_value_is_read_with_the_bits_that_are_stored(
    tmp_path: Path, signed: int, value: int, expected: int | None
) -> None:
    """12 bits: 2048 as a word of them, or with its sign in all 16, is -2048."""
    pixels = slice_pixels(1) % 2048
    path = tmp_path / "a.dcm"
    dataset = write_clinical_slice(
        path, pixels, BitsStored=12, HighBit=11, PixelRepresentation=signed
    )
    dataset.add_new(VALUE, "US", value)
    dataset.save_as(path)
    (frame,) = read_frames(path)
    assert frame.padding == (None if expected is None else Padding(expected, expected))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_declares_the_same(tmp_path: Path, syntax: UID) -> None:
    """Implicit VR leaves open whether the value has a sign, big endian turns its bytes."""
    pixels = with_circle(slice_pixels(1).astype(np.int16), -2000)
    elements = {VALUE: -2000, LIMIT: -1999}
    (frame,) = read_frames(write_as(tmp_path / "a.dcm", pixels, syntax, **elements))
    assert frame.padding == Padding(-2000, -1999)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_padded_slice_as_a_detector_sees_it(tmp_path: Path, photometric: str) -> None:
    """Black outside the circle, and inside what the circle's own values make of it."""
    inside = slice_pixels(1, (64, 64)).astype(np.int16)
    pixels = with_circle(inside, -32768)
    dataset = write_clinical_slice(
        tmp_path / "a.dcm", pixels, PhotometricInterpretation=photometric
    )
    dataset.PixelPaddingValue = -32768
    dataset.save_as(tmp_path / "a.dcm")
    (one,) = read_slices(tmp_path / "a.dcm", 64, Preprocessing())
    is_image = pixels != -32768
    alone = window(pixels[is_image][None], Preprocessing(), inverted=photometric == "MONOCHROME1")
    np.testing.assert_array_equal(one.image[is_image], alone[0])
    assert 0.15 < (~is_image).mean() < 0.3
    assert not one.image[~is_image].any()


def test_a_slice_of_nothing_but_padding_is_black(tmp_path: Path) -> None:
    path = declared(tmp_path / "a.dcm", np.full((64, 64), 7, np.uint16), (VALUE, "US", 7))
    dataset = pydicom.dcmread(path)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.save_as(path)
    (one,) = read_slices(path, 64, Preprocessing())
    assert not one.image.any()


def demo_probabilities(data: Path) -> np.ndarray:
    """(studies, 25, 3)"""
    with Scorer(demo_bundle(), device="cpu") as scorer:
        scores = list(scorer.score(find_studies(data), workers=0))
    return np.stack([np.concatenate([g.probability for g in one.groups]) for one in scores])


def test_padding_around_the_circle_of_a_phantom_changes_no_likeliest_grade(
    tmp_path: Path,
) -> None:
    """A fifth of each slice is padding far below all values, as resampled series have it.

    Measured: up to 0.15 of a probability (0.12 with zeros there and nothing declared).
    With the padding among the percentiles it is 0.97, and 31 of 50 likeliest grades are others.
    """
    root = Path(shutil.copytree(demo_studies(), tmp_path / "root"))
    for path in root.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.decompress(generate_instance_uid=False)
        pixels = with_circle(dataset.pixel_array.astype(np.int16), -32768)
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 1
        dataset.PixelData = pixels.tobytes()
        dataset.add_new(VALUE, "SS", -32768)
        dataset.save_as(path)
    plain, padded = demo_probabilities(demo_studies()), demo_probabilities(root)
    assert np.array_equal(plain.argmax(axis=-1), padded.argmax(axis=-1))
    assert 0 < np.abs(plain - padded).max() < 0.25  # seen: 0.203
