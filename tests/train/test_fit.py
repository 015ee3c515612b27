"""One short training: what it writes, and that flips stay off."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsna_lumbar.runtime.errors import DataError, UsageError
from rsna_lumbar.runtime.labels import SPINAL, SUBARTICULAR
from rsna_lumbar.train.cli import main
from rsna_lumbar.train.data_card import data_sha256, read_card
from rsna_lumbar.train.fit import FitOptions, fit

SIZE_PX = 64


def write_data(folder: Path, images: dict[str, int]) -> Path:
    """A data set of bright squares; the class is told by the row."""
    rng = np.random.default_rng(0)
    for part, count in images.items():
        (folder / "images" / part).mkdir(parents=True)
        (folder / "labels" / part).mkdir(parents=True)
        for index in range(count):
            picture = rng.integers(0, 60, (SIZE_PX, SIZE_PX), np.uint8)
            row = 8 + 10 * (index % 5)
            picture[row - 4 : row + 4, 28:36] = 250
            Image.fromarray(picture).save(folder / "images" / part / f"{index}.png")
            line = f"{3 * (index % 5)} 0.5 {row / SIZE_PX:.6f} 0.25 0.25\n"
            (folder / "labels" / part / f"{index}.txt").write_text(line)
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(SPINAL.classes))
    (folder / "data.yaml").write_text(
        f"train: images/train\nval: images/val\nchannels: 1\nnames:\n{names}"
    )
    card = {
        "group": "spinal",
        "size_px": SIZE_PX,
        "preprocessing": {"low_percentile": 0.5, "high_percentile": 99.5, "pad_value": 114},
        "prior": [[0.6, 0.2, 0.2]] * 5,
        "box_fraction": 20 / 384,
        "least_box_px": 16.0,
        "split": {"seed": 0},
        "images": images,
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(data, out) of one epoch of the demo model."""
    root = tmp_path_factory.mktemp("fit")
    write_data(root / "data" / "spinal", {"train": 6, "val": 2})
    options = FitOptions(model="demo", epochs=1, batch_size=3, device="cpu")
    done: list[tuple[str, int]] = []
    with warnings.catch_warnings():
        # torch's and ultralytics' own deprecations are not ours to mend.
        warnings.filterwarnings("ignore", module=r"(torch|ultralytics)\b")
        fit(
            root / "data",
            [SPINAL],
            root / "out",
            options,
            progress=lambda group, epoch: done.append((group, epoch)),
        )
    assert done == [("spinal", 1)]
    return root / "data", root / "out"


def test_flips_are_off(trained: tuple[Path, Path]) -> None:
    from ultralytics.utils import YAML

    saved = YAML.load(trained[1] / "spinal" / "args.yaml")  # type: ignore[no-untyped-call]
    assert saved["fliplr"] == 0.0
    assert saved["flipud"] == 0.0
    assert saved["mosaic"] == 0.0
    assert saved["amp"] is False
    assert saved["seed"] == 0


def test_weights_load_and_take_one_channel(trained: tuple[Path, Path]) -> None:
    import torch
    from ultralytics.nn.tasks import load_checkpoint

    model, _ = load_checkpoint(trained[1] / "spinal.pt")  # type: ignore[no-untyped-call]
    assert list(model.names.values()) == list(SPINAL.classes)
    with torch.no_grad():
        scores = model(torch.rand(2, 1, SIZE_PX, SIZE_PX))[0]
    assert scores.shape[:2] == (2, 4 + 15)
    assert torch.isfinite(scores).all()


def test_weights_say_nothing_of_this_machine(trained: tuple[Path, Path]) -> None:
    import torch

    saved = torch.load(trained[1] / "spinal.pt", map_location="cpu", weights_only=False)
    text = repr({key: value for key, value in saved.items() if key != "model"})
    text += repr(saved["model"].yaml) + repr(saved["model"].args)
    assert str(trained[1]) not in text
    assert "/" not in saved["model"].yaml["yaml_file"]
    assert not {"date", "git"} & set(saved)


def test_card_is_complete(trained: tuple[Path, Path]) -> None:
    data, out = trained
    card = json.loads((out / "spinal.json").read_text())
    assert card["group"] == "spinal"
    assert card["size_px"] == SIZE_PX
    assert card["preprocessing"]["pad_value"] == 114
    assert np.array(card["prior"]).shape == (5, 3)
    assert card["settings"]["epochs"] == 1
    assert card["data_sha256"] == data_sha256(data / "spinal")
    assert {"torch", "ultralytics", "python"} <= set(card["versions"])


def test_nothing_else_is_left(trained: tuple[Path, Path]) -> None:
    files = sorted(p.relative_to(trained[1]).as_posix() for p in trained[1].rglob("*"))
    assert files == ["spinal", "spinal.json", "spinal.pt", "spinal/args.yaml", "spinal/results.csv"]


def test_the_hash_sees_a_changed_label(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "spinal", {"train": 2, "val": 1})
    before = data_sha256(folder)
    (folder / "labels" / "train.cache").write_bytes(b"ultralytics' own")
    assert data_sha256(folder) == before
    (folder / "labels" / "train" / "1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert data_sha256(folder) != before


def test_a_data_set_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rsna-train prepare"):
        read_card(tmp_path, SPINAL)
    folder = write_data(tmp_path / "spinal", {"train": 2, "val": 0})
    with pytest.raises(DataError, match="0 validation images"):
        read_card(folder, SPINAL)
    with pytest.raises(DataError, match="describes spinal, not subarticular"):
        read_card(folder, SUBARTICULAR)
    (folder / "card.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_card(folder, SPINAL)


def test_weights_are_never_downloaded(tmp_path: Path) -> None:
    write_data(tmp_path / "spinal", {"train": 2, "val": 1})
    with pytest.raises(UsageError, match="never downloaded"):
        fit(tmp_path, [SPINAL], tmp_path / "out", FitOptions(model="yolov8n.pt"))


def test_results_do_not_go_into_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another folder"):
        fit(tmp_path, [SPINAL], tmp_path, FitOptions())


def test_a_missing_extra_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_data(tmp_path / "data" / "spinal", {"train": 2, "val": 1})
    monkeypatch.setitem(sys.modules, "ultralytics.utils", None)
    with pytest.raises(SystemExit) as stopped:
        main(["fit", str(tmp_path / "data"), str(tmp_path / "out"), "--group", "spinal"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "pip install 'rsna-lumbar[train]'" in error
