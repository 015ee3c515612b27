"""One short training: what it writes, and which settings it used."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from yolo_sets import SIZE_PX, write_data

from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL, SUBARTICULAR, Group
from rsna_lumbar.train.cli import main
from rsna_lumbar.train.dataset.data_card import data_sha256, read_card
from rsna_lumbar.train.fitting import fit as fitting
from rsna_lumbar.train.fitting.fit import FitOptions, fit, settings_of


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


def read_card_of(trained: tuple[Path, Path]) -> dict[str, Any]:
    return dict(json.loads((trained[1] / "spinal.json").read_text()))


def test_flips_are_off(trained: tuple[Path, Path]) -> None:
    used = read_card_of(trained)["ultralytics"]
    assert (used["fliplr"], used["flipud"], used["mosaic"]) == (0.0, 0.0, 0.0)
    assert used["augmentations"] == []
    assert used["amp"] is False
    assert used["seed"] == 0


def test_weights_load_and_take_one_channel(trained: tuple[Path, Path]) -> None:
    import torch
    from ultralytics.nn.tasks import load_checkpoint

    model, _ = load_checkpoint(trained[1] / "spinal.pt")  # type: ignore[no-untyped-call]
    assert list(model.names.values()) == list(SPINAL.classes)
    with torch.no_grad():
        scores = model(torch.rand(2, 1, SIZE_PX, SIZE_PX))[0]
    assert scores.shape[:2] == (2, 4 + 15)
    assert torch.isfinite(scores).all()
    assert all(weight.is_contiguous() for weight in model.state_dict().values())


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
    card = read_card_of(trained)
    assert card["group"] == "spinal"
    assert card["size_px"] == card["ultralytics"]["imgsz"] == SIZE_PX
    assert card["preprocessing"]["pad_value"] == 114
    assert np.array(card["prior"]).shape == (5, 3)
    assert card["data"] == json.loads((data / "spinal" / "card.json").read_text())
    assert card["settings"]["epochs"] == 1
    assert card["resumed_at"] == []
    assert card["data_sha256"] == data_sha256(data / "spinal")
    assert card["weights_sha256"] == sha256_of(out / "spinal.pt")
    assert {"torch", "ultralytics", "python"} <= set(card["versions"])
    assert str(data.parent) not in json.dumps(card)


def test_metrics_are_there_by_class(trained: tuple[Path, Path]) -> None:
    card = read_card_of(trained)
    assert {"metrics/mAP50(B)", "val/cls_loss"} <= set(card["validation"])
    assert tuple(card["classes"]) == SPINAL.classes
    shown = {name for name, values in card["classes"].items() if values["boxes"]}
    assert shown == {"spinal_canal_stenosis_l1_l2_normal_mild",
                     "spinal_canal_stenosis_l2_l3_normal_mild"}  # fmt: skip
    for name, values in card["classes"].items():
        measured = [values[key] for key in ("precision", "recall", "map50", "map50_95")]
        assert all((value is not None) == (name in shown) for value in measured)


def test_metrics_by_class_are_those_of_the_class() -> None:
    """Two boxes of class 1: one found, one not; class 0 has none; class 2 is never found."""
    from ultralytics.utils.metrics import DetMetrics

    from rsna_lumbar.train.fitting.trainer import metrics_by_class

    measured = DetMetrics({0: "a", 1: "b", 2: "c"})
    measured.update_stats(  # type: ignore[no-untyped-call]
        {
            "tp": np.ones((1, 10), bool),
            "conf": np.array([0.9]),
            "pred_cls": np.array([1.0]),
            "target_cls": np.array([1.0, 1.0, 2.0]),
            "target_img": np.array([1.0, 2.0]),
            "im_name": "x",
        }
    )
    measured.process()
    found = metrics_by_class(measured)
    assert found["a"] == {"boxes": 0, **dict.fromkeys(("precision", "recall", "map50", "map50_95"))}
    assert found["b"]["boxes"] == 2
    assert found["b"]["recall"] == pytest.approx(0.5, abs=0.01)
    assert found["b"]["map50"] == pytest.approx(0.5, abs=0.01)  # precision 1 up to recall 0.5
    assert found["c"] == {"boxes": 1, "precision": 0, "recall": 0, "map50": 0, "map50_95": 0}


def test_moments_of_a_checkpoint_lie_as_their_weights_do() -> None:
    """They may come from another kind of device; a fused kernel takes them as they lie."""
    import torch

    from rsna_lumbar.train.fitting.trainer import fit_to_device

    torch.manual_seed(0)
    last = torch.channels_last
    weight = torch.nn.Parameter(torch.rand(4, 3, 3, 3).to(memory_format=last))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.rand(4, 3, 3, 3).to(memory_format=last)
    optimizer.step()
    moment = optimizer.state[weight]["exp_avg"].clone()
    optimizer.state[weight]["exp_avg"] = moment.contiguous(memory_format=torch.contiguous_format)
    fit_to_device(optimizer, torch.device("cpu"))
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
    assert torch.equal(optimizer.state[weight]["exp_avg"], moment)
    assert optimizer.param_groups[0]["fused"] is True
    fit_to_device(optimizer, torch.device("cuda"))
    assert optimizer.param_groups[0]["fused"] is None


def test_the_same_seed_gives_the_same_weights(trained: tuple[Path, Path], tmp_path: Path) -> None:
    options = FitOptions(model="demo", epochs=1, batch_size=3, device="cpu")
    fit(trained[0], [SPINAL], tmp_path / "again", options)
    again = json.loads((tmp_path / "again" / "spinal.json").read_text())
    assert again == read_card_of(trained)


def test_nothing_else_is_left(trained: tuple[Path, Path]) -> None:
    files = sorted(p.relative_to(trained[1]).as_posix() for p in trained[1].rglob("*"))
    assert files == [
        "spinal",
        "spinal.json",
        "spinal.pt",
        "spinal/curves.png",
        "spinal/results.csv",
    ]


def test_the_command_says_what_is_finished(
    trained: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once: importing PyTorch and ultralytics takes seconds, so they must not be needed."""
    for library in ("torch", "ultralytics"):
        monkeypatch.setitem(sys.modules, library, None)
    words = ["--group", "spinal", "--model", "demo", "--epochs", "1", "--device", "cpu"]
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *map(str, trained), *words, "--batch-size", "3"])
    assert stopped.value.code == 0
    shown = capsys.readouterr()
    assert shown.out == f"{trained[1] / 'spinal.pt'}\n"
    assert "spinal: finished already" in shown.err
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *map(str, trained), *words, "--batch-size", "4"])
    assert stopped.value.code == 2
    assert "batch_size 3, not 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "epochs", "mosaic", "closed"),
    [("light", 50, 0.0, 0), ("method", 50, 1.0, 10), ("method", 9, 1.0, 4), ("method", 1, 1.0, 0)],
)
def test_mosaics_end_before_the_training(
    name: str, epochs: int, mosaic: float, closed: int
) -> None:
    options = FitOptions(model="demo", augmentation=name, epochs=epochs)
    settings = settings_of(SPINAL, options, "cpu")
    assert (settings["mosaic"], settings["close_mosaic"]) == (mosaic, closed)


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(UsageError, match="light, method"):
        settings_of(SPINAL, FitOptions(model="demo", augmentation="strong"), "cpu")


@pytest.mark.parametrize(("group", "share"), [(SPINAL, 0), (FORAMINAL, 0), (SUBARTICULAR, 0.5)])
def test_only_axial_slices_are_flipped_on_request(group: Group, share: float) -> None:
    settings = settings_of(group, FitOptions(model="demo", axial_flip=0.5), "cpu")
    assert (settings["fliplr"], settings["flipud"]) == (share, 0.0)


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


def test_what_another_call_finished_meanwhile_is_not_trained_again(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if this call had looked before the other one was done."""
    data, out = trained
    before = [(out / name).stat().st_mtime_ns for name in ("spinal.json", "spinal.pt")]
    monkeypatch.setattr(fitting, "is_finished", lambda *_: False)
    fit(data, [SPINAL], out, FitOptions(model="demo", epochs=1, batch_size=3, device="cpu"))
    assert [(out / name).stat().st_mtime_ns for name in ("spinal.json", "spinal.pt")] == before


def test_weights_are_never_downloaded(tmp_path: Path) -> None:
    write_data(tmp_path / "spinal", {"train": 2, "val": 1})
    with pytest.raises(UsageError, match="never downloaded"):
        fit(tmp_path, [SPINAL], tmp_path / "out", FitOptions(model="yolov8n.pt"))


@pytest.mark.parametrize("name", ["nowhere.yaml", "yolov8z.yaml", "demo.onnx"])
def test_an_unknown_model_leaves_nothing(tmp_path: Path, name: str) -> None:
    write_data(tmp_path / "spinal", {"train": 2, "val": 1})
    with pytest.raises(UsageError, match=name):
        fit(tmp_path, [SPINAL], tmp_path / "out", FitOptions(model=name))
    assert not (tmp_path / "out").exists()


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
