"""The commands as typed: phantom and prepare end to end, and what a wrong request answers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from rsna_lumbar.runtime.labels import GROUPS, condition_title
from rsna_lumbar.train.cli import main
from rsna_lumbar.train.phantom import QUIRKS, PhantomOptions, make_phantom

SMALL = PhantomOptions(
    studies=4, seed=3, matrix_px=64, slices_sagittal=9, slices_axial=12, quirks=frozenset(QUIRKS)
)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_every_point_of_a_quirky_phantom_is_used_or_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    make_phantom(root, SMALL)
    assert run("prepare", root, out, "--image-size", 64, "--workers", 1) == 0
    shown = capsys.readouterr().out
    points = pd.read_csv(root / "train_label_coordinates.csv")
    labels = pd.read_csv(root / "train.csv")
    for group in GROUPS:
        card = json.loads((out / group.name / "card.json").read_text())
        boxes = sum(sum(parts.values()) for parts in card["boxes"].values())
        without_point = card["left_out"].pop("label_without_point", 0)
        titles = [condition_title(condition) for condition in group.conditions]
        of_group = points[points["condition"].isin(titles)]
        graded = labels[["_".join(location) for location in group.locations]].notna().sum().sum()
        assert boxes > 0
        assert boxes + sum(card["left_out"].values()) == len(of_group)
        misplaced = sum(n for r, n in card["left_out"].items() if r != "point_without_label")
        assert boxes + misplaced + without_point == graded
        assert f"{group.name:13} train" in shown
        pictures = list((out / group.name).glob("images/*/*.png"))
        texts = list((out / group.name).glob("labels/*/*.txt"))
        assert len(pictures) == len(texts) == sum(card["images"].values())
        assert sum(len(path.read_text().splitlines()) for path in texts) == boxes


def test_phantom_writes_what_prepare_reads(tmp_path: Path) -> None:
    root = tmp_path / "root"
    frequencies = ("--frequencies", "0,0,1")
    assert run("phantom", root, "--studies", 2, "--matrix-px", 32, *frequencies) == 0
    labels = pd.read_csv(root / "train.csv", dtype=str)
    assert (labels.drop(columns="study_id") == "Severe").all(axis=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("phantom", "OUT", "--frequencies", "1,2"), "takes three numbers"),
        (("phantom", "OUT", "--quirks", "holes,teeth"), "unknown quirks ['teeth']"),
        (("prepare", "ROOT", "OUT", "--window", "99", "1"), "low < high"),
        (("prepare", "OUT", "OUT"), "does not exist"),
        (("fit", "ROOT", "OUT", "--group", "hip"), "'hip' is not one of"),
    ],
)
def test_a_wrong_request_is_refused_and_writes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ROOT").mkdir()
    paths = {"ROOT": tmp_path / "ROOT", "OUT": tmp_path / "OUT"}
    assert run(*(paths.get(word, word) for word in arguments)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "OUT").exists()


def test_a_folder_without_tables_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prepare", tmp_path, tmp_path / "out") == 1
    assert "train.csv does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
