"""The commands as typed: phantom and prepare end to end, and what a wrong request answers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from challenge import write_root

from rsna_lumbar.runtime.core.labels import GROUPS, condition_title
from rsna_lumbar.train.cli import main
from rsna_lumbar.train.commands.phantom import phantom
from rsna_lumbar.train.phantom import QUIRKS, USUAL_QUIRKS, PhantomOptions, make_phantom

pytestmark = pytest.mark.usefixtures("plain_sheets")

SMALL = PhantomOptions(
    studies=5, seed=3, matrix_px=64, slices_sagittal=9, slices_axial=12, quirks=frozenset(QUIRKS)
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
        boxes = sum(counts["train"] + counts["val"] for counts in card["classes"].values())
        without_point = card["left_out"].pop("label_without_point", 0)
        titles = [condition_title(condition) for condition in group.conditions]
        of_group = points[points["condition"].isin(titles)]
        graded = labels[["_".join(location) for location in group.locations]].notna().sum().sum()
        assert boxes > 0
        assert boxes + sum(card["left_out"].values()) == len(of_group)
        misplaced = sum(n for r, n in card["left_out"].items() if r != "point_without_label")
        assert boxes + misplaced + without_point == graded
        assert f"\n{group.name} " in f"\n{shown}"
        pictures = list((out / group.name).glob("images/*/*.png"))
        texts = list((out / group.name).glob("labels/*/*.txt"))
        assert len(pictures) == len(texts) == sum(card["images"].values())
        assert sum(len(path.read_text().splitlines()) for path in texts) == boxes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--box", "spinal"), "--box takes GROUP=SIZE"),
        (("--box", "hip=20px"), "--box takes GROUP=SIZE"),
        (("--box", "spinal=20cm"), "not a size of a box"),
        (("--fold", "5"), "no fold 5 of 5"),
        (("--window", "90", "10"), "percentile"),
    ],
)
def test_prepare_refuses_in_one_line(
    tmp_path: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prepare", tmp_path, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_prepare_goes_by_what_it_was_asked(tmp_path: Path) -> None:
    root, out = write_root(tmp_path / "root"), tmp_path / "out"
    options = ("--folds", 2, "--fold", 1, "--labels", "mask-non-severe", "--none-severe", "drop",
               "--box", "spinal=20px", "--box", "foraminal=1/4")  # fmt: skip
    assert run("prepare", root, out, "--image-size", 64, *options) == 0
    cards = [json.loads((out / group.name / "card.json").read_text()) for group in GROUPS]
    assert [(card["box"]["value"], card["box"]["unit"]) for card in cards] == [
        (20, "px"), (0.25, "share"), (20 / 384, "share"),
    ]  # fmt: skip
    assert cards[0]["labels"] == {"name": "mask-non-severe", "none_severe": "drop"}
    assert cards[0]["split"]["folds"] == 2 and cards[0]["split"]["fold"] == 1
    assert cards[0]["images"]["train"] + cards[0]["images"]["val"] == 1  # the one severe study


def test_the_command_draws_the_usual_quirks_unless_asked() -> None:
    (quirks,) = (option for option in phantom.params if option.name == "quirks")
    assert quirks.default == ",".join(USUAL_QUIRKS)


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
