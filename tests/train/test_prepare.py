"""Whole data sets from a small tree made by hand."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from challenge import SERIES_OF, SIZE_PX, STUDIES, contents, pixels_of, write_root
from PIL import Image
from stored_ways import WAYS, store_in_another_way

from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.core.labels import GROUPS
from rsna_lumbar.runtime.core.preprocess import Preprocessing, square_slice
from rsna_lumbar.runtime.system.atomic_files import sole_user
from rsna_lumbar.train.dataset.boxes import METHOD_BOX, BoxSize
from rsna_lumbar.train.dataset.label_scheme import LabelScheme
from rsna_lumbar.train.dataset.prepare import prepare
from rsna_lumbar.train.dataset.slice_images import PrepareOptions
from rsna_lumbar.train.dataset.split import PARTS, Folds
from rsna_lumbar.train.dataset.summary import GroupSummary, as_table
from rsna_lumbar.train.phantom import PhantomOptions, make_phantom

pytestmark = pytest.mark.usefixtures("plain_sheets")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "root")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[GroupSummary]]:
    """A finished data set of the same tree, shared by the tests that only read it."""
    folder = tmp_path_factory.mktemp("made")
    return folder / "out", prepare(write_root(folder / "root"), folder / "out", options())


@pytest.fixture
def finished(made: tuple[Path, list[GroupSummary]], tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(made[0], tmp_path / "out"))


def options(seed: int = 0) -> PrepareOptions:
    return PrepareOptions(size_px=SIZE_PX, least_box_px=0.0, folds=Folds(folds=4, seed=seed))


def box(line: str) -> tuple[int, np.ndarray]:
    index, *numbers = line.split()
    return int(index), np.array(numbers, float)


def test_data_sets_are_written(made: tuple[Path, list[GroupSummary]]) -> None:
    out, summaries = made
    assert [(one.group, one.images, one.left_out) for one in summaries] == [
        (group.name, {"train": 3, "val": 1}, {}) for group in GROUPS
    ]
    parts = {part: (out / f"{part}_studies.csv").read_text().split() for part in PARTS}
    assert {lines.pop(0) for lines in parts.values()} == {"study_id"}
    part_of = {study: part for part, studies in parts.items() for study in studies}
    assert sorted(part_of) == list(STUDIES)
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


def test_card_and_data_yaml_are_complete(made: tuple[Path, list[GroupSummary]]) -> None:
    for group in GROUPS:
        folder = made[0] / group.name
        card = json.loads((folder / "card.json").read_text())
        assert card["group"] == group.name
        assert card["size_px"] == SIZE_PX
        assert Preprocessing(**card["preprocessing"]) == Preprocessing()
        prior = np.array(card["prior"])
        assert prior.shape == (len(group.locations), 3)
        np.testing.assert_allclose(prior.sum(axis=1), 1)
        text = (folder / "data.yaml").read_text()
        assert "channels: 1\n" in text
        assert str(made[0].parent) not in text
        listed = [line.split(": ") for line in text.split("names:\n")[1].splitlines()]
        assert [(int(index), name) for index, name in listed] == list(enumerate(group.classes))


def test_the_prior_counts_training_studies_only(made: tuple[Path, list[GroupSummary]]) -> None:
    out, _ = made
    _, validation = (out / "val_studies.csv").read_text().split()
    cases = np.ones(3)  # Laplace
    for study, grade in zip(STUDIES, (0, 1, 2, 0), strict=True):
        cases[grade] += study != validation
    weighted = cases * [1, 2, 4]
    card = json.loads((out / "spinal" / "card.json").read_text())
    np.testing.assert_allclose(card["prior"], np.tile(weighted / weighted.sum(), (5, 1)))


def test_same_bytes_whatever_the_workers(
    root: Path, made: tuple[Path, list[GroupSummary]], tmp_path: Path
) -> None:
    prepare(root, tmp_path / "two", options(), workers=2)
    assert contents(made[0]) == contents(tmp_path / "two")


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


def test_files_stored_otherwise_give_the_same_images_and_boxes(tmp_path: Path) -> None:
    """Every phantom slice in another of the eight ways, and its labelled points moved with it."""
    phantom = PhantomOptions(
        studies=2, matrix_px=40, slices_sagittal=5, slices_axial=10, sagittal_spacing_mm=9.0
    )
    root = tmp_path / "root"
    make_phantom(root, phantom)
    boxes = METHOD_BOX | {"subarticular": BoxSize(12, "mm")}
    wanted = replace(options(), boxes=boxes, folds=Folds(folds=2))
    prepare(root, tmp_path / "plain", wanted)

    files = sorted((root / "train_images").rglob("*.dcm"))
    assert len(files) > 2 * len(WAYS)
    shown = {
        (*path.parts[-3:-1], path.stem): store_in_another_way(path, WAYS[number % len(WAYS)])
        for number, path in enumerate(files)
    }
    table = root / "train_label_coordinates.csv"
    points = pd.read_csv(table, dtype=str)
    keys = points[["study_id", "series_id", "instance_number"]].itertuples(index=False, name=None)
    for row, key in enumerate(keys):
        before, after = shown[key]
        x, y = after.place_of(before.mm(float(points.at[row, "x"]), float(points.at[row, "y"])))
        points.loc[row, ["x", "y"]] = [repr(x), repr(y)]
    points.to_csv(table, index=False)

    prepare(root, tmp_path / "turned", wanted)
    plain, turned = contents(tmp_path / "plain"), contents(tmp_path / "turned")
    assert plain.keys() == turned.keys()
    assert sum(name.endswith(".png") for name in plain) > 10
    told = {"prepare.json", "summary.json", "summary.txt"}  # hashes of tables; what was turned
    told |= {f"{group.name}/{name}" for group in GROUPS for name in ("card.json", "slices.csv")}
    assert {name for name in plain if plain[name] != turned[name]} == told
    for group in GROUPS:
        card = json.loads(turned[f"{group.name}/card.json"])
        assert sum(card["standing"]["turned"].values()) > 0
        assert not any(card["standing"]["no_orientation"].values())
        assert json.loads(plain[f"{group.name}/card.json"])["standing"]["turned"] == {
            "train": 0,
            "val": 0,
        }


def test_images_without_an_orientation_are_said(root: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(root, tmp_path / "copy"))
    for path in (whole / "train_images").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        del dataset.ImageOrientationPatient
        dataset.save_as(path)
    spinal = prepare(whole, tmp_path / "out", options())[0]
    assert spinal.standing["no_orientation"] == spinal.images == {"train": 3, "val": 1}
    last = " ".join(as_table(spinal).splitlines()[-1].split())
    assert last == "as stored: no orientation 3 1"


def test_images_of_another_standing_are_not_mixed_in(
    root: Path, finished: Path, tmp_path: Path
) -> None:
    """Version 0.1 of the package began with images as they are stored."""
    finished.rename(tmp_path / "out.partial")
    plan = tmp_path / "out.partial" / "prepare.json"
    fields = json.loads(plan.read_text())
    del fields["versions"]["pictures"]
    plan.write_text(json.dumps(fields))
    with pytest.raises(DataError, match=r"other versions\.pictures; remove it"):
        prepare(root, tmp_path / "out", options())


def test_a_used_folder_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "something").touch()
    with pytest.raises(DataError, match="not an empty folder"):
        prepare(root, tmp_path / "out", options())


def label_lines(out: Path, group: str, study: str) -> list[str]:
    (path,) = (out / group).glob(f"labels/*/{study}_*.txt")
    return path.read_text().splitlines()


def test_boxes_in_millimetres(root: Path, tmp_path: Path) -> None:
    """0.5 mm across and 2 mm down a pixel, halved into the square: 12 mm are 12 and 3 px of 32."""
    for path in root.rglob("5.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PixelSpacing = [2.0, 0.5]
        dataset.save_as(path)
    boxes = METHOD_BOX | {"spinal": BoxSize(12, "mm")}
    prepare(root, tmp_path / "out", replace(options(), boxes=boxes))
    _, numbers = box(label_lines(tmp_path / "out", "spinal", "11")[0])
    np.testing.assert_allclose(numbers[2:], [12 / 32, 3 / 32], atol=1e-6)


def test_millimetres_without_a_spacing_are_left_out(root: Path, tmp_path: Path) -> None:
    for path in root.rglob("5.dcm"):
        dataset = pydicom.dcmread(path)
        del dataset.PixelSpacing
        dataset.save_as(path)
    boxes = METHOD_BOX | {"spinal": BoxSize(12, "mm")}
    spinal, foraminal, _ = prepare(root, tmp_path / "out", replace(options(), boxes=boxes))
    assert spinal.left_out == {"no_pixel_spacing": 20}
    assert foraminal.left_out == {}


@pytest.mark.parametrize(
    ("none_severe", "images", "left_out"),
    [
        ("keep", 3, {"masked_beside_severe": 1}),
        ("drop", 1, {"masked_beside_severe": 1, "none_severe_dropped": 10}),
        ("background", 3, {"masked_beside_severe": 1, "none_severe_background": 10}),
    ],
)
def test_masking_labels(
    root: Path, tmp_path: Path, none_severe: str, images: int, left_out: dict[str, int]
) -> None:
    """Study 13 is severe but for L1/L2, 11 and 12 are not severe, 14 has no spinal label."""
    table = root / "train.csv"
    lines = table.read_text().splitlines()
    lines[3] = lines[3].replace("13,Severe", "13,Moderate", 1)
    lines[4] = "14," + "," * 4 + ",".join([""] + ["Normal/Mild"] * 20)
    table.write_text("\n".join(lines) + "\n")
    scheme = LabelScheme(name="mask-non-severe", none_severe=none_severe)
    spinal = prepare(root, tmp_path / "out", replace(options(), scheme=scheme))[0]
    assert spinal.left_out == {"point_without_label": 5, **left_out}
    assert sum(spinal.images.values()) == images
    classes = [box(line)[0] for line in label_lines(tmp_path / "out", "spinal", "13")]
    assert classes == [5, 8, 11, 14]
    if none_severe == "background":
        assert label_lines(tmp_path / "out", "spinal", "12") == []


def test_the_summary_counts_classes_and_reasons(root: Path, tmp_path: Path) -> None:
    (root / "train_images" / "11" / "111" / "5.dcm").unlink()
    table = root / "train.csv"
    table.write_text(table.read_text().replace("12,Moderate", "12,", 1))
    spinal = prepare(root, tmp_path / "out", options())[0]
    assert sum(spinal.boxes.values()) == 14
    assert spinal.classes["(no grade)"] == {"train": 0, "val": 0, "point_without_label": 1}
    first = spinal.classes["spinal_canal_stenosis_l1_l2_normal_mild"]
    assert first["file_missing"] == 1 and first["train"] + first["val"] == 1  # 11 and 14
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert stored["empty_labels"] == 1
    assert stored["groups"][0]["classes"] == spinal.classes
    text = (tmp_path / "out" / "summary.txt").read_text()
    assert as_table(spinal) in text
    row = next(line for line in text.splitlines() if line.startswith("(no grade)"))
    assert row.split()[2:] == ["0", "0", "1", "0"]


def test_finished_is_not_done_again(
    root: Path, made: tuple[Path, list[GroupSummary]], finished: Path
) -> None:
    for path in root.rglob("*.dcm"):
        path.unlink()
    assert prepare(root, finished, options()) == made[1]
    assert contents(finished) == contents(made[0])


def test_without_matplotlib_finished_work_is_told_and_none_is_begun(
    root: Path,
    made: tuple[Path, list[GroupSummary]],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert prepare(root, finished, options()) == made[1]
    with pytest.raises(UsageError, match="matplotlib"):
        prepare(root, tmp_path / "new", options())
    assert not list(tmp_path.glob("new*"))


@pytest.mark.parametrize("name", ["out", "out.partial"])
def test_other_options_are_not_mixed_in(
    root: Path, finished: Path, tmp_path: Path, name: str
) -> None:
    finished.rename(tmp_path / name)
    with pytest.raises(DataError, match=r"other options\.folds.*remove it"):
        prepare(root, tmp_path / "out", options(seed=1))
    (root / "train.csv").write_text((root / "train.csv").read_text() + "\n")
    with pytest.raises(DataError, match=r"other tables\.train\.csv"):
        prepare(root, tmp_path / "out", options())


def test_two_preparations_at_once_are_told_apart(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    with sole_user(tmp_path / "out.partial"), pytest.raises(OSError, match="another process"):
        prepare(root, tmp_path / "out", options())
    prepare(root, tmp_path / "out", options())


@pytest.mark.parametrize("name", ["mine", ".env", ".git/config"])
def test_a_foreign_partial_folder_is_not_touched(root: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "out.partial" / name
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(DataError, match="in the way"):
        prepare(root, tmp_path / "out", options())
    assert path.exists()


@pytest.mark.parametrize("mistake", ["table", "folds"])
def test_a_mistake_that_was_mended_is_in_nobodys_way(
    root: Path, tmp_path: Path, mistake: str
) -> None:
    points, good = root / "train_label_coordinates.csv", options()
    text = points.read_text()
    if mistake == "table":
        points.unlink()
    bad = replace(good, folds=Folds(folds=5)) if mistake == "folds" else good
    with pytest.raises(DataError, match=r"does not exist|5 folds"):
        prepare(root, tmp_path / "out", bad)
    points.write_text(text)
    assert prepare(root, tmp_path / "out", good)
