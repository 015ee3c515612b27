"""Files that scanners wrote, and files that are broken in one way each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless, SecondaryCaptureImageStorage
from toys import slice_pixels, write_clinical_slice

from rsna_lumbar.runtime.core.preprocess import Preprocessing, square_slice
from rsna_lumbar.runtime.core.reasons import Reason, SkipFile
from rsna_lumbar.runtime.dicom.slices import doubt_of, read_frames, read_slices

# Sum of the pixels of the one slice in shared real files, whatever its transfer syntax.
REAL_SLICE_SUM = 38036663


def test_every_transfer_syntax_gives_the_same_pixels(real_mr: Path) -> None:
    files = sorted((real_mr / "transfer_syntaxes").glob("*.dcm"))
    assert len(files) == 9
    syntaxes = {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in files}
    assert len(syntaxes) == 7
    first = read_frames(files[0])[0].pixels
    for path in files:
        (frame,) = read_frames(path)
        assert int(frame.pixels.sum()) == REAL_SLICE_SUM
        np.testing.assert_array_equal(frame.pixels, first)


@pytest.mark.parametrize(
    "name",
    ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm",
     "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"],
)  # fmt: skip
def test_pydicoms_own_files_decode_as_pydicom_does(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    (frame,) = read_frames(path)
    assert frame.pixels.shape == (64, 64)
    reference = pydicom.dcmread(str(get_testdata_file("MR_small.dcm"))).pixel_array
    np.testing.assert_array_equal(frame.pixels, reference)


def test_a_multi_frame_file_gives_one_slice_a_frame(tmp_path: Path) -> None:
    stack = np.stack([slice_pixels(seed) for seed in range(3)])
    write_clinical_slice(tmp_path / "a.dcm", stack, NumberOfFrames=3)
    slices = read_slices(tmp_path / "a.dcm", 64, Preprocessing())
    assert [one.frame for one in slices] == [0, 1, 2]
    for one, pixels in zip(slices, stack, strict=True):
        expected = square_slice(pixels, 64, Preprocessing(), inverted=False)
        np.testing.assert_array_equal(one.image, expected)


def test_rle_decodes_to_what_was_stored(tmp_path: Path) -> None:
    pixels = slice_pixels(1)
    dataset = write_clinical_slice(tmp_path / "a.dcm", pixels)
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "rle.dcm")
    np.testing.assert_array_equal(read_frames(tmp_path / "rle.dcm")[0].pixels, pixels)


@pytest.mark.parametrize(
    ("photometric", "slope", "inverted"),
    [("MONOCHROME2", None, False), ("MONOCHROME2", 1, False), ("MONOCHROME2", -2, True),
     ("MONOCHROME1", None, True), ("MONOCHROME1", -1, False), ("MONOCHROME1", "nan", True)],
)  # fmt: skip
def test_direction_of_grey(tmp_path: Path, photometric: str, slope: object, inverted: bool) -> None:
    path = tmp_path / "a.dcm"
    dataset = write_clinical_slice(path, slice_pixels(1), PhotometricInterpretation=photometric)
    if slope == "nan":
        dataset.RescaleSlope = 1
        dataset["RescaleSlope"]._value = "NaN"
    elif slope is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, 5
    dataset.save_as(path)
    (frame,) = read_frames(path)
    assert frame.inverted is inverted


def test_signed_pixels(tmp_path: Path) -> None:
    pixels = slice_pixels(1).astype(np.int16) - 1000
    write_clinical_slice(tmp_path / "a.dcm", pixels)
    (frame,) = read_frames(tmp_path / "a.dcm")
    np.testing.assert_array_equal(frame.pixels, pixels)


def test_the_centre_of_an_oblique_slice(tmp_path: Path) -> None:
    """Worked by hand: 5 rows, 3 columns, 2 x 4 mm, rows along +y, columns along -z."""
    write_clinical_slice(
        tmp_path / "a.dcm",
        np.zeros((5, 3), np.uint16),
        ImagePositionPatient=[10, 20, 30],
        PixelSpacing=[2, 4],
    )
    (frame,) = read_frames(tmp_path / "a.dcm")
    assert frame.geometry is not None
    assert frame.geometry.centre_mm == (10, 20 + 1 * 4, 30 - 2 * 2)


def broken(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "a.dcm"
    pixels = slice_pixels(1)
    if kind == "text":
        path.write_text("no DICOM")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "missing":
        pass
    elif kind == "no pixels":
        write_clinical_slice(path, pixels, PixelData=None)
    elif kind == "truncated":
        write_clinical_slice(path, pixels)
        path.write_bytes(path.read_bytes()[:-700])
    elif kind == "truncated header":
        write_clinical_slice(path, pixels)
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "unknown syntax":
        write_clinical_slice(path, pixels)
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0"))
    elif kind == "secondary capture":
        write_clinical_slice(path, pixels, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    elif kind == "colour":
        write_clinical_slice(path, pixels, PhotometricInterpretation="RGB", SamplesPerPixel=3)
    elif kind == "huge":
        write_clinical_slice(path, pixels, Rows=65535, Columns=65535)
    elif kind == "no rows":
        write_clinical_slice(path, pixels, Rows=None)
    elif kind == "32 bits":
        write_clinical_slice(path, pixels, BitsAllocated=32)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", Reason.NOT_DICOM),
        ("empty", Reason.NOT_DICOM),
        ("folder", Reason.NOT_DICOM),
        ("missing", Reason.UNREADABLE),
        ("no pixels", Reason.NO_PIXELS),
        ("truncated", Reason.BAD_PIXELS),
        ("truncated header", Reason.UNREADABLE),
        ("unknown syntax", Reason.UNKNOWN_TRANSFER_SYNTAX),
        ("secondary capture", Reason.NOT_MR_IMAGE),
        ("colour", Reason.NOT_GREY),
        ("huge", Reason.TOO_LARGE),
        ("no rows", Reason.BAD_PIXELS),
        ("32 bits", Reason.BAD_PIXELS),
    ],
)
def test_a_broken_file_is_skipped_with_its_reason(
    tmp_path: Path, kind: str, reason: Reason
) -> None:
    with pytest.raises(SkipFile) as caught:
        read_slices(broken(tmp_path, kind), 64, Preprocessing())
    assert caught.value.reason is reason


def test_zeros_at_the_end_are_doubted(tmp_path: Path) -> None:
    """Half a copy; not a scanner's empty rows, a masked background or a black slice."""
    full = slice_pixels(3, (64, 64)) + 1
    for last, end, doubt in (
        (20, 7, "zeros from row 21 of 64 on"),
        (0, 1, "zeros from row 1 of 64 on"),
        (60, 64, "zeros from row 61 of 64 on"),
        (61, 64, ""),
        (63, 10, ""),
    ):
        pixels = full.copy()
        pixels[last, end:] = 0
        pixels[last + 1 :] = 0
        assert doubt_of(pixels) == doubt
    masked = np.where(np.hypot(*np.mgrid[-32:32, -32:32]) < 20, full, 0)
    assert not masked[-4:].any()
    cut = masked.copy()
    cut[30:] = 0
    assert doubt_of(cut) == "zeros from row 30 of 64 on"
    assert doubt_of(masked) == doubt_of(np.zeros_like(full)) == ""
    half = full.copy()
    half[30:] = 0
    write_clinical_slice(tmp_path / "a.dcm", half)
    (one,) = read_slices(tmp_path / "a.dcm", 64, Preprocessing())
    assert one.doubt == "zeros from row 30 of 64 on"
