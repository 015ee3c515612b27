"""The generated studies: what they hold, that they repeat, and that nothing of them is random."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage, RLELossless

from rsna_lumbar.benchmarks.harness.median_study import (
    FIRST_ID,
    IMAGES,
    MEDIAN,
    TABLE,
    SeriesSize,
    StudySize,
    compressed_share,
    draw_studies,
    repeat_studies,
)
from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, SPINAL, SUBARTICULAR
from rsna_lumbar.runtime.core.preprocess import Preprocessing
from rsna_lumbar.runtime.dicom.slices import read_slices
from rsna_lumbar.runtime.studies.finder import find_studies

TINY = StudySize(
    (SeriesSize(FORAMINAL, 3, 64), SeriesSize(SPINAL, 4, 48), SeriesSize(SUBARTICULAR, 5, 40))
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_studies(folder, TINY, count=2, seed=3)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.dcm")}


def test_the_median_study_is_the_domains() -> None:
    assert MEDIAN.slices == 74
    assert str(MEDIAN) == "17 x 512^2 + 17 x 448^2 + 40 x 384^2"


def test_series_have_their_sizes_and_readers(drawn: Path) -> None:
    inventory = find_studies(drawn)
    assert [study.study_id for study in inventory.studies] == [str(FIRST_ID), str(FIRST_ID + 1)]
    assert not inventory.skips
    for study in inventory.studies:
        for size in TINY.series:
            (series,) = study.of(size.group)
            assert len(series.files) == size.slices
            header = pydicom.dcmread(series.files[0])
            assert (header.Rows, header.Columns) == (size.matrix_px, size.matrix_px)


def test_files_are_as_the_challenges(drawn: Path) -> None:
    for path in drawn.rglob("*.dcm"):
        header = pydicom.dcmread(path)
        assert header.file_meta.TransferSyntaxUID == RLELossless
        assert header.file_meta.MediaStorageSOPClassUID == EnhancedMRImageStorage
        assert "SOPClassUID" not in header and "Modality" not in header
        assert (header.BitsAllocated, header.BitsStored) == (16, 12)
        assert "NumberOfFrames" not in header
        assert 0 < header.pixel_array.max() < 2**12


def test_slices_say_where_they_lie(drawn: Path) -> None:
    study = find_studies(drawn).studies[0]
    for group in GROUPS:
        (series,) = study.of(group)
        slices = [s for file in series.files for s in read_slices(file, 32, Preprocessing())]
        assert len({one.geometry.centre_mm for one in slices if one.geometry}) == len(slices)


def test_studies_differ_and_a_seed_repeats_them(drawn: Path, tmp_path: Path) -> None:
    draw_studies(tmp_path, TINY, count=2, seed=3)
    again = files_of(tmp_path)
    assert again == files_of(drawn)
    first, second = (
        {n: c for n, c in again.items() if str(FIRST_ID + index) in n} for index in range(2)
    )
    assert len(first) == len(second) == TINY.slices
    assert not set(first.values()) & set(second.values())


def test_a_root_repeats_them_under_new_ids(drawn: Path, tmp_path: Path) -> None:
    root = repeat_studies(drawn, tmp_path / "root", TINY, count=3)
    inventory = find_studies(root)
    assert [study.file_count for study in inventory.studies] == [TINY.slices] * 3
    images = root / IMAGES
    assert files_of(images / str(FIRST_ID + 2)) == files_of(drawn / IMAGES / str(FIRST_ID))
    assert 0.3 < compressed_share(root, TINY) < 1.1  # of slices so small, headers are a third


def test_a_complete_folder_is_left_and_half_a_one_is_not(drawn: Path, tmp_path: Path) -> None:
    draw_studies(tmp_path, TINY, count=1, seed=3)
    (tmp_path / IMAGES / str(FIRST_ID) / "stray.dcm").touch()
    draw_studies(tmp_path, TINY, count=1, seed=3)
    assert "100000001/stray.dcm" in files_of(tmp_path / IMAGES)
    (tmp_path / TABLE).unlink()
    draw_studies(tmp_path, TINY, count=1, seed=3)
    assert files_of(tmp_path / IMAGES) == {
        name.removeprefix(f"{IMAGES}/"): content
        for name, content in files_of(drawn).items()
        if str(FIRST_ID) in name
    }
