"""Order inside a set follows the patient, never the numbering, nor the workers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from faults import CORONAL
from toys import AXIAL, SAGITTAL, slice_pixels, write_clinical_slice

from rsna_lumbar.runtime.core.labels import SPINAL, SUBARTICULAR, Group
from rsna_lumbar.runtime.core.preprocess import Preprocessing, square_slice
from rsna_lumbar.runtime.core.reasons import Reason
from rsna_lumbar.runtime.decode import worker_pool
from rsna_lumbar.runtime.decode.decoder import DecodeHere
from rsna_lumbar.runtime.decode.factory import open_decoder
from rsna_lumbar.runtime.decode.slice_sets import SetRequest, SliceSet, decode_sets, read_sets
from rsna_lumbar.runtime.studies.finder import find_studies


def decode(folder: Path, workers: int = 0, group: Group = SPINAL) -> SliceSet:
    request = SetRequest("1", group, 64, (tuple(sorted(folder.iterdir())),))
    with open_decoder(workers, Preprocessing(), largest_px=64) as decoder:
        (decoded,) = decode_sets([request], decoder, data=folder)
    return decoded


@pytest.mark.parametrize("series", ["sagittal_ascending", "sagittal_interleaved"])
def test_real_sagittal_series_are_ordered_by_position(
    real_mr: Path, tmp_path: Path, series: str
) -> None:
    """Renumbered copies: file names and InstanceNumber shuffled against the position."""
    files = sorted((real_mr / series).glob("*.dcm"))
    shuffled = np.random.default_rng(7).permutation(len(files)) + 1
    for path, number in zip(files, shuffled, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = int(number)
        dataset.save_as(tmp_path / f"{number}.dcm")
    decoded = decode(tmp_path)
    assert len(decoded.slices) == 63
    positions = [float(pydicom.dcmread(one.file).ImagePositionPatient[0]) for one in decoded.slices]
    assert positions == sorted(positions)
    assert [one.instance_number for one in decoded.slices] != sorted(shuffled.tolist())


def test_axial_slices_run_from_head_to_feet(tmp_path: Path) -> None:
    for number, z_mm in enumerate((5, -30, 20, 0), start=1):
        write_clinical_slice(
            tmp_path / f"{number}.dcm",
            slice_pixels(number),
            InstanceNumber=number,
            ImageOrientationPatient=AXIAL,
            ImagePositionPatient=[0, 0, z_mm],
        )
    decoded = decode(tmp_path, group=SUBARTICULAR)
    assert [one.instance_number for one in decoded.slices] == [3, 1, 4, 2]


def test_slices_without_position_come_last_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        write_clinical_slice(
            tmp_path / f"{number}.dcm",
            slice_pixels(number),
            InstanceNumber=number,
            ImageOrientationPatient=SAGITTAL,
            ImagePositionPatient=None if number > 1 else [3, 0, 0],
        )
    assert [one.instance_number for one in decode(tmp_path).slices] == [1, 9, 10]


def test_slices_of_another_plane_are_left_out(tmp_path: Path) -> None:
    """A localizer inside a series; what does not tell its plane is scored."""
    oblique = [0.1, 0.9, -0.1, 0, -0.1, -0.9]
    planes = {"1": SAGITTAL, "2": AXIAL, "3": CORONAL, "4": None, "5": oblique}
    for number, orientation in planes.items():
        write_clinical_slice(
            tmp_path / f"{number}.dcm",
            slice_pixels(int(number)),
            ImageOrientationPatient=orientation,
        )
    decoded = decode(tmp_path)
    assert sorted(one.file.stem for one in decoded.slices) == ["1", "4", "5"]
    assert [(skip.reason, skip.what, skip.detail) for skip in decoded.skips] == [
        (Reason.OTHER_PLANE, "2.dcm", "axial among sagittal"),
        (Reason.OTHER_PLANE, "3.dcm", "coronal among sagittal"),
    ]
    assert (decoded.decoding.files, decoded.decoding.skipped) == (3, 2)
    axial = decode(tmp_path, group=SUBARTICULAR)
    assert sorted(one.file.stem for one in axial.slices) == ["2", "4"]


@pytest.mark.parametrize("workers", [0, 2])
def test_duplicates_are_scored_once(tmp_path: Path, workers: int) -> None:
    """Copies of a file, in one series or two; not slices that only share pixels or only a UID."""
    for folder, number, uid, seed in (
        ("1", 1, "1.2.1", 1),
        ("1", 2, "1.2.1", 1),  # again
        ("1", 3, "1.2.1", 3),  # another slice under the same UID
        ("1", 4, "1.2.4", 1),  # another slice with the same pixels
        ("1", 5, None, 1),
        ("1", 6, None, 1),
        ("2", 1, "1.2.1", 3),  # again
        ("2", 2, "1.2.22", 22),
    ):
        write_clinical_slice(
            tmp_path / folder / f"{number}.dcm",
            slice_pixels(seed),
            InstanceNumber=number,
            SOPInstanceUID=uid,
        )
    series = tuple(tuple(sorted((tmp_path / name).iterdir())) for name in "12")
    request = SetRequest("1", SPINAL, 64, series)
    with open_decoder(workers, Preprocessing(), largest_px=64) as decoder:
        (decoded,) = decode_sets([request], decoder, data=tmp_path)
    scored = [one.file.relative_to(tmp_path).as_posix() for one in decoded.slices]
    assert scored == ["1/1.dcm", "1/3.dcm", "1/4.dcm", "1/5.dcm", "1/6.dcm", "2/2.dcm"]
    assert [(skip.reason, skip.what) for skip in decoded.skips] == [
        (Reason.DUPLICATE, "1/2.dcm"),
        (Reason.DUPLICATE, "2/1.dcm"),
    ]
    assert all(skip.harmless for skip in decoded.skips)


def test_slices_that_differ_in_a_few_pixels_are_both_scored(tmp_path: Path) -> None:
    """Under one UID, and alike in every 16th pixel, by which they are told apart first."""
    pixels = slice_pixels(1, (64, 64))
    changed = pixels.copy()
    middling = changed[1:16, 1:16]  # a view between the first of those pixels
    middling[(middling > 300) & (middling < 500)] += 100  # so the window stays as it is
    first, second = (
        square_slice(one, 64, Preprocessing(), inverted=False) for one in (pixels, changed)
    )
    np.testing.assert_array_equal(first[::16, ::16], second[::16, ::16])
    assert 0 < np.count_nonzero(first != second) < 15 * 15
    for number, one in enumerate((pixels, changed, changed), start=1):
        write_clinical_slice(
            tmp_path / f"{number}.dcm", one, InstanceNumber=number, SOPInstanceUID="1.2.1"
        )
    decoded = decode(tmp_path)
    assert [one.file.name for one in decoded.slices] == ["1.dcm", "2.dcm"]
    np.testing.assert_array_equal(decoded.images, [first, second])
    assert [(skip.reason, skip.what) for skip in decoded.skips] == [(Reason.DUPLICATE, "3.dcm")]


def test_workers_change_nothing(toy_root: Path) -> None:
    series = toy_root / "test_images" / "12" / "33"
    alone, shared = (decode(series, workers, SUBARTICULAR) for workers in (0, 2))
    assert len(alone.slices) == 5
    np.testing.assert_array_equal(alone.images, shared.images)
    assert [one.file for one in alone.slices] == [one.file for one in shared.slices]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_costs_only_itself(toy_root: Path, tmp_path: Path, workers: int) -> None:
    series = Path(shutil.copytree(toy_root / "test_images" / "12" / "33", tmp_path / "s"))
    (series / "2.dcm").write_text("broken")
    decoded = decode(series, workers, SUBARTICULAR)
    assert [one.file.name for one in decoded.slices] == ["1.dcm", "3.dcm", "4.dcm", "5.dcm"]
    assert [(skip.reason, skip.what) for skip in decoded.skips] == [(Reason.NOT_DICOM, "2.dcm")]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_decoding_runs_ahead_of_what_is_handed_out(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Behind each set that the caller works on, IN_HAND files a worker are under way."""
    monkeypatch.setattr(worker_pool, "IN_HAND", 7)
    files = tuple(sorted((toy_root / "test_images" / "12" / "33").iterdir()))
    asked = 0

    def requests() -> Iterator[SetRequest]:
        nonlocal asked
        for index in range(8):
            asked += 1
            yield SetRequest(str(index), SPINAL, 64, (files,))

    with open_decoder(workers, Preprocessing(), largest_px=64) as decoder:
        handed = decode_sets(requests(), decoder, data=toy_root)
        ahead = [asked - number for number, _ in enumerate(handed, start=1)]
    behind = -(-7 * workers // len(files))  # whole sets of 5 files that hold 7 files a worker
    assert ahead == [min(behind, 8 - number) for number in range(1, 9)]


def test_no_requests_and_empty_requests() -> None:
    here = DecodeHere(Preprocessing())
    assert list(decode_sets([], here, data=Path())) == []
    request = SetRequest("1", SPINAL, 64, ())
    (decoded,) = decode_sets([request], here, data=Path())
    assert decoded.slices == ()


def test_read_sets_leaves_out_what_has_no_slice(toy_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(toy_root, tmp_path / "root"))
    shutil.rmtree(root / "test_images" / "12" / "33")
    sets = read_sets(find_studies(root), SUBARTICULAR, size_px=64, preprocessing=Preprocessing())
    assert {study: images.shape for study, images in sets.items()} == {
        "7": (5, 64, 64),
        "100": (5, 64, 64),
    }
