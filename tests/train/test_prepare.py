"""Boxes, the split, and whole data sets from small hand-made DICOM trees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.labels import GROUPS, LOCATIONS, condition_title, level_title
from rsna_lumbar.runtime.preprocess import Placement, Preprocessing, square_slice
from rsna_lumbar.train.boxes import Point, label_line
from rsna_lumbar.train.prepare import PrepareOptions, prepare
from rsna_lumbar.train.split import split_studies

ROWS, COLUMNS, SIZE_PX = 48, 64, 32
STUDIES = ("11", "12", "13", "14")
SERIES_OF = {"Sagittal T2/STIR": "1", "Sagittal T1": "2", "Axial T2": "3"}


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset)


def pixels_of(study: str, series: str, instance: int) -> np.ndarray:
    rng = np.random.default_rng([int(study), int(series), instance])
    return rng.integers(0, 4096, (ROWS, COLUMNS))


def write_root(root: Path) -> Path:
    """Four studies; every label has a point at column 20, row 10 of instance 5 of its series."""
    header = ",".join(["study_id", *("_".join(location) for location in LOCATIONS)])
    grades = ["Normal/Mild", "Moderate", "Severe", "Normal/Mild"]
    labels = [
        ",".join([study, *[grade] * 25]) for study, grade in zip(STUDIES, grades, strict=True)
    ]
    points, series = [], []
    for study in STUDIES:
        for group in GROUPS:
            number = study + SERIES_OF[group.series_kind]
            series.append(f"{study},{number},{group.series_kind}")
            for instance in (5, 60):  # 60 carries no label
                path = root / "train_images" / study / number / f"{instance}.dcm"
                write_dicom(path, pixels_of(study, number, instance))
            points += [
                f"{study},{number},5,{condition_title(condition)},{level_title(level)},20,10"
                for condition, level in group.locations
            ]
    tables = {
        "train.csv": [header, *labels],
        "train_label_coordinates.csv": [
            "study_id,series_id,instance_number,condition,level,x,y",
            *points,
        ],
        "train_series_descriptions.csv": ["study_id,series_id,series_description", *series],
    }
    for name, lines in tables.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return write_root(tmp_path / "root")


def options(seed: int = 0) -> PrepareOptions:
    return PrepareOptions(size_px=SIZE_PX, least_box_px=0.0, val_fraction=0.25, seed=seed)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def box(line: str) -> tuple[int, np.ndarray]:
    index, *numbers = line.split()
    return int(index), np.array(numbers, float)


def test_a_box_is_centred_on_its_point() -> None:
    """Halving 64 x 48 into 32 x 32 puts the point (20, 10) at (9.75, 4.75) + 4 rows of border.

    Centres at whole numbers: (20 + 0.5) / 2 - 0.5 = 9.75. YOLO counts from the border: + 0.5.
    """
    line = label_line(Point(7, 20, 10), Placement(ROWS, COLUMNS, SIZE_PX), 0.25, 0.0)
    index, numbers = box(line)
    assert index == 7
    expected = [10.25 / 32, (4 + 5.25) / 32, 0.25, 0.25 * 24 / 32]
    np.testing.assert_allclose(numbers, expected, atol=1e-6)


def test_a_box_has_a_least_size() -> None:
    _, numbers = box(label_line(Point(0, 32, 24), Placement(ROWS, COLUMNS, SIZE_PX), 0.01, 8.0))
    np.testing.assert_allclose(numbers[2:], [0.25, 0.25], atol=1e-6)


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.01, 1.5),
)
def test_a_box_stays_inside_the_image(
    rows: int, columns: int, across: float, down: float, fraction: float
) -> None:
    place = Placement(rows, columns, 64)
    point = Point(0, across * columns - 0.5, down * rows - 0.5)
    assert point.lies_in(rows, columns)
    _, (x, y, width, height) = box(label_line(point, place, fraction, 4.0))
    assert width > 0 and height > 0
    assert x - width / 2 >= place.left / 64 - 2e-6
    assert y - height / 2 >= place.top / 64 - 2e-6
    assert x + width / 2 <= (place.left + place.width) / 64 + 2e-6
    assert y + height / 2 <= (place.top + place.height) / 64 + 2e-6


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_every_study_is_in_one_part(count: int, fraction: float, seed: int) -> None:
    studies = [str(number) for number in range(count)]
    split = split_studies(studies, fraction, seed)
    assert sorted(split.train + split.val) == sorted(studies)
    assert split.train and split.val
    assert split == split_studies(studies[::-1], fraction, seed)


def test_another_seed_draws_other_studies() -> None:
    studies = [str(number) for number in range(50)]
    assert split_studies(studies, 0.2, 0).val != split_studies(studies, 0.2, 1).val


def test_one_study_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least two"):
        split_studies(["1"], 0.2, 0)


def test_data_sets_are_written(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = prepare(root, out, options())
    assert [(one.group, one.images, one.left_out) for one in made] == [
        (group.name, {"train": 3, "val": 1}, {}) for group in GROUPS
    ]
    lines = (out / "split.csv").read_text().splitlines()[1:]
    part_of = dict(line.split(",") for line in lines)
    for group in GROUPS:
        names = sorted(path.name for path in (out / group.name).glob("images/*/*.png"))
        assert names == [
            f"{study}_{study}{SERIES_OF[group.series_kind]}_5.png" for study in STUDIES
        ]
        for study in STUDIES:
            series = study + SERIES_OF[group.series_kind]
            path = out / group.name / "images" / part_of[study] / f"{study}_{series}_5.png"
            expected = square_slice(
                pixels_of(study, series, 5), SIZE_PX, Preprocessing(), inverted=False
            )
            np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)
            label = out / group.name / "labels" / part_of[study] / f"{study}_{series}_5.txt"
            grade = {"11": 0, "12": 1, "13": 2, "14": 0}[study]
            classes = [box(line)[0] for line in label.read_text().splitlines()]
            assert classes == [3 * place + grade for place in range(len(group.locations))]


def test_card_and_data_yaml_are_complete(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "out", options())
    for group in GROUPS:
        folder = tmp_path / "out" / group.name
        card = json.loads((folder / "card.json").read_text())
        assert card["group"] == group.name
        assert card["size_px"] == SIZE_PX
        assert Preprocessing(**card["preprocessing"]) == Preprocessing()
        prior = np.array(card["prior"])
        assert prior.shape == (len(group.locations), 3)
        np.testing.assert_allclose(prior.sum(axis=1), 1)
        text = (folder / "data.yaml").read_text()
        assert "channels: 1\n" in text
        assert str(tmp_path) not in text
        listed = [line.split(": ") for line in text.split("names:\n")[1].splitlines()]
        assert [(int(index), name) for index, name in listed] == list(enumerate(group.classes))


def test_the_prior_counts_training_studies_only(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "out", options())
    out = tmp_path / "out"
    (validation,) = (
        line.split(",")[0]
        for line in (out / "split.csv").read_text().splitlines()
        if line.endswith(",val")
    )
    cases = np.ones(3)  # Laplace
    for study, grade in zip(STUDIES, (0, 1, 2, 0), strict=True):
        cases[grade] += study != validation
    weighted = cases * [1, 2, 4]
    card = json.loads((out / "spinal" / "card.json").read_text())
    np.testing.assert_allclose(card["prior"], np.tile(weighted / weighted.sum(), (5, 1)))


def test_same_bytes_whatever_the_workers(root: Path, tmp_path: Path) -> None:
    prepare(root, tmp_path / "one", options())
    prepare(root, tmp_path / "two", options(), workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_only_labelled_slices_are_opened(root: Path, tmp_path: Path) -> None:
    for path in root.rglob("60.dcm"):
        path.write_bytes(b"this would fail to decode")
    made = prepare(root, tmp_path / "out", options())
    assert not any(one.left_out for one in made)


def test_bad_slices_are_left_out_and_counted(root: Path, tmp_path: Path) -> None:
    images = root / "train_images"
    (images / "11" / "111" / "5.dcm").unlink()
    (images / "12" / "121" / "5.dcm").write_bytes(b"no DICOM")
    table = root / "train_label_coordinates.csv"
    first_of_13 = "13,131,5,Spinal Canal Stenosis,L1/L2,20,10"
    text = table.read_text()
    assert first_of_13 in text
    table.write_text(text.replace(first_of_13, first_of_13.replace("20,10", "20,48")))
    spinal = prepare(root, tmp_path / "out", options())[0]
    assert spinal.left_out == {
        "file_missing": 5,
        "file_unreadable": 5,
        "point_outside_image": 1,
    }
    assert sum(spinal.boxes.values()) == 9
    assert sum(spinal.images.values()) == 2
    listed = (tmp_path / "out" / "spinal" / "left_out.csv").read_text()
    assert "point_outside_image,13,131,5,spinal_canal_stenosis,l1_l2" in listed
    assert not list((tmp_path / "out" / "spinal").rglob("11_*"))


def test_a_used_folder_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "something").touch()
    with pytest.raises(DataError, match="not an empty folder"):
        prepare(root, tmp_path / "out", options())
