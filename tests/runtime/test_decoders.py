"""Every decoder against pydicom's own ``pixel_array(raw=True)``, also on damaged files."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from toys import SYNTAXES, slice_pixels, write_as, write_clinical_slice

from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom import pixels
from rsna_lumbar.runtime.dicom.dataset import open_dicom
from rsna_lumbar.runtime.dicom.pixels import DECODERS, stored_pixels

NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
# Bytes of big-endian files may be swapped in pairs: those are left to pydicom.
ORDINARY = [
    (syntax, kind)
    for syntax in DECODERS
    for kind in (np.uint16, np.int16, np.uint8, np.int8)
    if syntax != ExplicitVRBigEndian or np.dtype(kind).itemsize == 2
]
SHIPPED = (
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
)


def shipped(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def decoded(path: Path) -> np.ndarray:
    with open_dicom(path) as dataset:
        return stored_pixels(dataset).frames


def by_pydicom(path: Path) -> np.ndarray:
    """(frames, rows, columns)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about what is unusual
        pixels = pixel_array(pydicom.dcmread(path), raw=True)
    return pixels.reshape(-1, *pixels.shape[-2:])


@pytest.fixture
def fallbacks(monkeypatch: pytest.MonkeyPatch) -> list[UID]:
    """Transfer syntaxes that pydicom was asked to decode."""
    asked: list[UID] = []

    def note(dataset: FileDataset, **options: Any) -> np.ndarray:
        asked.append(dataset.file_meta.TransferSyntaxUID)
        return pixel_array(dataset, **options)

    monkeypatch.setattr(pixels, "pixel_array", note)
    return asked


@pytest.fixture
def no_fallback(fallbacks: list[UID]) -> Iterator[None]:
    yield
    assert fallbacks == []


def test_the_table_names_every_syntax_that_is_tested_here() -> None:
    assert set(DECODERS) == {*NATIVE, RLELossless}


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize(
    ("syntax", "kind"), ORDINARY, ids=lambda one: getattr(one, "keyword", None)
)
def test_the_table_decodes_ordinary_slices(tmp_path: Path, syntax: UID, kind: type) -> None:
    pixels = slice_pixels(1).astype(kind)
    path = write_as(tmp_path / "a.dcm", pixels, syntax)
    np.testing.assert_array_equal(decoded(path), pixels[None])


@pytest.mark.parametrize("name", SHIPPED)
def test_files_of_pydicom(name: str) -> None:
    expected = by_pydicom(shipped(name))
    np.testing.assert_array_equal(decoded(shipped(name)), expected)


def test_real_slices_of_every_syntax(real_mr: Path) -> None:
    for path in sorted((real_mr / "transfer_syntaxes").glob("*.dcm")):
        np.testing.assert_array_equal(decoded(path), by_pydicom(path))


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_stored_ones_are_not_the_pixels(
    tmp_path: Path, syntax: UID, signed: bool
) -> None:
    """12 bits of 16; the four above them hold ones, or zeros where a sign should reach."""
    twelve = slice_pixels(1) * np.uint16(5) % 4096
    stored = twelve.astype(np.int16) if signed else twelve | np.uint16(0xF000)
    path = write_as(
        tmp_path / "a.dcm", stored, syntax, BitsStored=12, HighBit=11, PixelRepresentation=signed
    )
    expected = np.where(twelve >= 2048, twelve.astype(int) - 4096, twelve) if signed else twelve
    assert (twelve >= 2048).any()
    np.testing.assert_array_equal(decoded(path)[0], expected)
    np.testing.assert_array_equal(decoded(path), by_pydicom(path))


@pytest.mark.usefixtures("no_fallback")
def test_pixels_of_an_uncompressed_file_are_a_view(tmp_path: Path) -> None:
    path = write_as(tmp_path / "a.dcm", slice_pixels(1), ExplicitVRLittleEndian)
    assert not decoded(path).flags.owndata


@pytest.mark.usefixtures("no_fallback")
def test_an_odd_number_of_bytes_is_padded(tmp_path: Path) -> None:
    pixels = slice_pixels(1, (9, 11)).astype(np.uint8)
    path = tmp_path / "a.dcm"
    write_clinical_slice(path, pixels, PixelData=pixels.tobytes() + b"\0")
    np.testing.assert_array_equal(decoded(path), pixels[None])


def unusual(tmp_path: Path, what: str) -> Path:
    path = tmp_path / "a.dcm"
    pixels = slice_pixels(1)
    stack = np.stack([pixels, pixels + 1])
    if what == "padded":
        write_clinical_slice(path, pixels, PixelData=pixels.tobytes() + bytes(100))
    elif what == "RLE frames":
        write_as(path, stack, RLELossless, NumberOfFrames=2)
    elif what == "big-endian bytes":
        write_as(path, pixels.astype(np.uint8), ExplicitVRBigEndian)
    elif what == "another photometric interpretation":
        write_clinical_slice(path, pixels, PhotometricInterpretation="PALETTE COLOR")
    return path


@pytest.mark.parametrize(
    ("syntax", "declared"),
    [
        (syntax, {keyword: value})
        for syntax in SYNTAXES
        for keyword, value in (("Rows", 47), ("Rows", 1), ("Columns", 39), ("Columns", 4))
        if (syntax, keyword) != (RLELossless, "Rows")  # pylibjpeg leaves those rows out unnoticed
    ],
)
def test_more_pixels_than_declared_are_a_fault(
    tmp_path: Path, syntax: UID, declared: dict[str, int]
) -> None:
    """pydicom makes further frames of them."""
    path = write_as(tmp_path / "a.dcm", slice_pixels(1), syntax)
    dataset = pydicom.dcmread(path)
    for keyword, value in declared.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    with pytest.raises(SkipFile) as raised:
        decoded(path)
    assert raised.value.reason is Reason.BAD_PIXELS


@pytest.mark.parametrize(
    "declared",
    [{"Rows": 192, "Columns": 768}, {"Rows": 383}, {"Columns": 385}, {"BitsAllocated": 8}],
)
def test_real_slices_of_another_size_than_declared(
    real_mr: Path, tmp_path: Path, declared: dict[str, int]
) -> None:
    """In the JPEG family the pixels tell their size themselves; else the count of bytes does."""
    tried = 0
    for path in sorted((real_mr / "transfer_syntaxes").glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        syntax = dataset.file_meta.TransferSyntaxUID
        if "JPEG" not in syntax.name:
            continue
        assert decoded(path).shape == (1, 384, 384)
        for keyword, value in declared.items():
            setattr(dataset, keyword, value)
        if "BitsAllocated" in declared:
            dataset.BitsStored, dataset.HighBit = 8, 7
        dataset.save_as(tmp_path / "a.dcm")
        with pytest.raises(SkipFile) as raised:
            decoded(tmp_path / "a.dcm")
        assert raised.value.reason is Reason.BAD_PIXELS, syntax.name
        tried += 1
    assert tried >= 4


def test_more_rle_frames_than_declared_are_a_fault(tmp_path: Path) -> None:
    stack = np.stack([slice_pixels(1), slice_pixels(2)])
    dataset = write_clinical_slice(tmp_path / "a.dcm", stack, NumberOfFrames=2)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.NumberOfFrames = 1
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(SkipFile, match="2 frames, and 1 are declared"):
        decoded(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "what",
    [
        "padded",
        "RLE frames",
        "big-endian bytes",
        "another photometric interpretation",
    ],
)
def test_what_is_unusual_is_left_to_pydicom(
    tmp_path: Path, fallbacks: list[UID], what: str
) -> None:
    path = unusual(tmp_path, what)
    got = decoded(path)
    assert len(fallbacks) == 1
    np.testing.assert_array_equal(got, by_pydicom(path))


@pytest.mark.parametrize(
    "elements",
    [{"BitsStored": None}, {"PixelRepresentation": None}, {"PixelRepresentation": 2},
     {"BitsStored": 17}, {"PhotometricInterpretation": None}, {"SamplesPerPixel": None},
     {"FloatPixelData": bytes(7680)}],
    ids=lambda elements: " ".join(f"{name}={value!r:.6}" for name, value in elements.items()),
)  # fmt: skip
def test_pydicoms_refusal_counts(
    tmp_path: Path, fallbacks: list[UID], elements: dict[str, object]
) -> None:
    write_clinical_slice(tmp_path / "a.dcm", slice_pixels(1), **elements)
    with pytest.raises(SkipFile) as caught:
        decoded(tmp_path / "a.dcm")
    assert caught.value.reason is Reason.BAD_PIXELS
    assert len(fallbacks) == 1


def mutants(path: Path, count: int) -> Iterator[bytes]:
    """Bytes changed, cut out and cut off, in the header and in the pixels."""
    dice = random.Random(path.name)
    original = path.read_bytes()
    for _ in range(count):
        changed = bytearray(original)
        for _ in range(dice.choice((1, 1, 2, 8))):
            place = dice.randrange(132, dice.choice((1500, len(changed))))
            changed[place] = dice.randrange(256)
        if dice.random() < 0.2:
            del changed[dice.randrange(200, len(changed)) :]
        yield bytes(changed)


def outcome(decode: object, path: Path) -> object:
    try:
        pixels = decode(path)  # type: ignore[operator]
    except SkipFile as skip:
        return skip.args
    return pixels.shape, pixels.dtype.newbyteorder("="), pixels.tobytes()


def without_table(path: Path) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "DECODERS", {})
        return decoded(path)


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"])
def test_mutants_fare_as_with_pydicom(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same pixels or the same reason. pylibjpeg-rle panics on some, and says so on stderr."""
    path = tmp_path / "mutant.dcm"
    seen = set()
    for content in mutants(shipped(name), 150):
        path.write_bytes(content)
        expected = outcome(without_table, path)
        assert outcome(decoded, path) == expected
        seen.add(expected[0])  # type: ignore[index]
    assert Reason.BAD_PIXELS in seen
    assert (1, 64, 64) in seen
    capfd.readouterr()


def test_a_frame_in_two_fragments(tmp_path: Path) -> None:
    pixels = slice_pixels(1)
    path = write_as(tmp_path / "a.dcm", pixels, RLELossless)
    dataset = pydicom.dcmread(path)
    (frame,) = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([frame], fragments_per_frame=2)
    dataset.save_as(path)
    np.testing.assert_array_equal(decoded(path), pixels[None])
