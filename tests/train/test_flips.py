"""Mirrored axial slices: image, boxes and sides change together, and nothing else is mirrored."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from yolo_sets import SIZE_PX, write_data_yaml

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.train.fitting.fit import AUGMENTATIONS
from rsna_lumbar.train.fitting.flips import swapped_classes
from rsna_lumbar.train.fitting.rare_grades import SLICE_LIST, write_slice_list

IMAGES = 6
PLAIN = {"mosaic": 0.0, "close_mosaic": 0, "translate": 0.0, "scale": 0.0}


def test_only_subarticular_slices_are_axial() -> None:
    assert [group.name for group in GROUPS if group.plane == "axial"] == ["subarticular"]


@given(st.permutations(SUBARTICULAR.classes))
def test_the_partner_is_the_same_location_on_the_other_side(names: list[str]) -> None:
    swapped = swapped_classes(names)
    assert [swapped[index] for index in swapped] == list(range(30))
    for name, partner in zip(names, swapped, strict=True):
        assert {name, names[partner]} == {
            f"{side}_{name.partition('_')[2]}" for side in ("left", "right")
        }


@pytest.mark.parametrize("group", [SPINAL, FORAMINAL])
def test_sagittal_classes_are_refused(group: Group) -> None:
    with pytest.raises(UsageError, match="not a class of axial slices"):
        swapped_classes(group.classes)


def test_a_missing_partner_is_named() -> None:
    with pytest.raises(UsageError, match="comes without right_subarticular_stenosis_l5_s1_severe"):
        swapped_classes(SUBARTICULAR.classes[:-1])
    assert swapped_classes([]) == ()


def make_trainer(folder: Path, group: Group, fliplr: float, augmentation: dict[str, Any]) -> Any:
    """A trainer of slices with one bright square each, at the left edge of image and box."""
    write_squares(folder, group)
    from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

    prepare_third_party("train")
    from rsna_lumbar.train.fitting.trainer import LumbarTrainer

    settings = {
        **augmentation,
        "fliplr": fliplr,
        "augmentations": [],
        "data": str(folder / "data.yaml"),
        "model": "yolov8n.yaml",
        "imgsz": SIZE_PX,
        "device": "cpu",
        "save_dir": str(folder / "run"),
    }
    write_slice_list(folder, folder / "run" / SLICE_LIST, repeats=1)
    return LumbarTrainer(overrides=settings)


def write_squares(folder: Path, group: Group) -> None:
    """Image k holds a square 10 px wide in columns 6 to 16, of class k."""
    for part in ("train", "val"):
        (folder / "images" / part).mkdir(parents=True)
        (folder / "labels" / part).mkdir(parents=True)
        for index in range(IMAGES):
            picture = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
            picture[20:30, 6:16] = 250
            Image.fromarray(picture).save(folder / "images" / part / f"{index}.png")
            label = f"{index} {11 / SIZE_PX} {25 / SIZE_PX} {10 / SIZE_PX} {10 / SIZE_PX}\n"
            (folder / "labels" / part / f"{index}.txt").write_text(label)
    write_data_yaml(folder, group)


def read_item(dataset: Any, index: int) -> tuple[int, str, bool]:
    """(class, half that the box is in, whether the square fills the box)."""
    item = dataset[index]
    image = item["img"].numpy()  # (1, S, S)
    x, y, width, height = (item["bboxes"][0].numpy() * SIZE_PX).round().astype(int)
    inside = image[0, y - height // 2 : y + height // 2, x - width // 2 : x + width // 2]
    half = "left" if x < SIZE_PX / 2 else "right"
    return int(item["cls"][0]), half, bool((inside == 250).all()) and (image == 250).sum() == 100


@pytest.mark.parametrize("closed", [False, True])
def test_every_slice_is_mirrored_with_its_class(tmp_path: Path, closed: bool) -> None:
    trainer = make_trainer(tmp_path, SUBARTICULAR, 1.0, PLAIN)
    dataset = trainer.build_dataset(trainer.data["train"])
    if closed:  # what ultralytics does when mosaics end
        dataset.close_mosaic(hyp=trainer.args)
    assert [read_item(dataset, index) for index in range(IMAGES)] == [
        (index + 15, "right", True) for index in range(IMAGES)
    ]


def test_without_flips_nothing_moves(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SUBARTICULAR, 0.0, PLAIN)
    dataset = trainer.build_dataset(trainer.data["train"])
    assert [read_item(dataset, index) for index in range(IMAGES)] == [
        (index, "left", True) for index in range(IMAGES)
    ]


def test_validation_slices_are_never_mirrored(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SUBARTICULAR, 1.0, PLAIN)
    dataset = trainer.build_dataset(trainer.data["val"], mode="val")
    assert [read_item(dataset, index) for index in range(IMAGES)] == [
        (index, "left", True) for index in range(IMAGES)
    ]


def test_a_share_is_mirrored_and_a_seed_repeats_it(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SUBARTICULAR, 0.5, PLAIN)
    dataset = trainer.build_dataset(trainer.data["train"])

    def draw() -> list[tuple[int, str, bool]]:
        random.seed(4)
        return [read_item(dataset, index % IMAGES) for index in range(10 * IMAGES)]

    first = draw()
    flipped = [half == "right" for _, half, _ in first]
    assert 0.25 < np.mean(flipped) < 0.75
    assert [item[0] for item in first] == [
        index % IMAGES + 15 * flip for index, flip in enumerate(flipped)
    ]
    assert draw() == first


def test_what_is_mirrored_stays_so_in_a_loading_process(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SUBARTICULAR, 1.0, PLAIN)
    dataset = trainer.build_dataset(trainer.data["train"])
    copied = pickle.loads(pickle.dumps(dataset))
    assert read_item(copied, 2) == (17, "right", True)


def test_sides_stay_right_among_four_slices_in_one(tmp_path: Path) -> None:
    """The square sits at the left of each slice; mirrored, its class says so wherever it lands."""
    trainer = make_trainer(tmp_path, SUBARTICULAR, 0.5, dict(AUGMENTATIONS["method"]))
    dataset = trainer.build_dataset(trainer.data["train"])
    items = [dataset[index % IMAGES] for index in range(4 * IMAGES)]
    assert max(len(item["cls"]) for item in items) > 1
    sides = [{float(value) >= 15 for value in item["cls"]} for item in items if len(item["cls"])]
    assert all(len(side) == 1 for side in sides)  # the whole image is mirrored, or none of it
    assert {True, False} == set.union(*sides)


def test_the_flip_of_ultralytics_would_leave_the_class(tmp_path: Path) -> None:
    """The defect that the above guards against; a benchmark may ask for it in this way."""
    trainer = make_trainer(tmp_path, SUBARTICULAR, 1.0, PLAIN)
    from ultralytics.data.dataset import YOLODataset

    trainer.dataset_class = YOLODataset
    dataset = trainer.build_dataset(trainer.data["train"])
    assert read_item(dataset, 2) == (2, "right", True)


@pytest.mark.parametrize("group", [SPINAL, FORAMINAL])
def test_a_sagittal_data_set_refuses(tmp_path: Path, group: Group) -> None:
    trainer = make_trainer(tmp_path, group, 0.5, PLAIN)
    with pytest.raises(UsageError, match="not a class of axial slices"):
        trainer.build_dataset(trainer.data["train"])
    assert len(trainer.build_dataset(trainer.data["val"], mode="val")) == IMAGES
