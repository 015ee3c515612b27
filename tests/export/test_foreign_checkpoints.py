"""Checkpoints as others have them: each is read, or refused in one line that says what to do."""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import parser

from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.runtime.core.errors import CheckpointError
from rsna_lumbar.runtime.core.labels import SPINAL

Content = dict[str, Any]


@pytest.fixture
def network(make_checkpoint: Any) -> Any:
    """A detector as ultralytics unpickles it, with its classes in another order than ours."""
    return torch.load(make_checkpoint(SPINAL, "n", 1).path, weights_only=False)["model"]


def saved(folder: Path, content: Any, **how: Any) -> Path:
    path = folder / "best.pt"
    torch.save(content, path, **how)
    return path


def read(folder: Path, content: Any) -> Checkpoint:
    return read_checkpoint(saved(folder, content), SPINAL)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        read_checkpoint(path, SPINAL)
    line = str(refused.value)
    assert line.startswith(f"{path} ") and "\n" not in line and "ERROR" not in line
    return line


# --- what is read


@pytest.mark.parametrize(
    ("imgsz", "size_px"),
    [
        (384, 384),
        ([384, 384], 384),
        ((384, 384), 384),
        ([384], 384),
        ([384, 640], None),
        ("384", None),
        ([], None),
        ([384, 384, 3], None),
        (True, None),
        (None, None),
        ([384.5, 384.5], None),
    ],
)
def test_image_sizes_as_ultralytics_takes_them(
    tmp_path: Path, network: Any, imgsz: object, size_px: int | None
) -> None:
    checkpoint = read(tmp_path, {"model": network, "train_args": {"imgsz": imgsz}})
    assert checkpoint.trained_size_px == size_px
    assert checkpoint.trained_px == (
        (384, 640) if imgsz == [384, 640] else (size_px and (384, 384))
    )


@pytest.mark.parametrize(
    "content",
    [
        lambda network: {"model": network},
        lambda network: {"model": network.half()},
        lambda network: {"model": None, "ema": network.half(), "updates": 7},
        lambda network: {"model": network, "ema": None, "train_args": None} | {"train_args": {}},
        lambda network: network,
    ],
    ids=["model", "fp16", "ema only", "model only", "torch.save(model)"],
)
def test_forms_that_hold_a_network(tmp_path: Path, network: Any, content: Any) -> None:
    wanted = network.model[0].conv.weight.half().float()
    found = read(tmp_path, content(network))
    assert found.trained_px is None and found.network.model[0].conv.weight.dtype == torch.float32
    torch.testing.assert_close(found.network.model[0].conv.weight.half().float(), wanted)
    assert sorted(found.order) == list(range(15))


def test_a_network_saved_whole_says_its_image_size(tmp_path: Path, network: Any) -> None:
    network.args = {"imgsz": 96}
    assert read(tmp_path, network).trained_size_px == 96


def test_as_ultralytics_itself_strips_and_saves(tmp_path: Path, network: Any) -> None:
    from ultralytics import YOLO
    from ultralytics.utils.torch_utils import strip_optimizer

    args = {"imgsz": [96, 96]}
    path = saved(tmp_path, {"epoch": 3, "model": None, "ema": network, "train_args": args})
    strip_optimizer(path)
    assert read_checkpoint(path, SPINAL).trained_size_px == 96
    model = YOLO("yolov8n.yaml")
    model.model, model.ckpt = network, {}
    model.save(tmp_path / "again.pt")
    assert read_checkpoint(tmp_path / "again.pt", SPINAL).trained_px is None


def test_a_fused_network_is_the_same_network(tmp_path: Path, network: Any) -> None:
    from rsna_lumbar.export.checkpoints.reference import reference_peaks
    from rsna_lumbar.export.checkpoints.synthetic import textured_slices

    slices = textured_slices(4, 64, seed=3)
    plain = reference_peaks(read(tmp_path, {"model": network}), slices)
    fused = read(tmp_path, {"model": network.float().eval().fuse(verbose=False)})
    torch.testing.assert_close(reference_peaks(fused, slices), plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "names",
    [
        list,
        tuple,
        lambda names: dict(enumerate(names)),
        lambda names: {str(index): name for index, name in enumerate(names)},
        lambda names: [name.replace("_", " ").title() for name in names],
    ],
    ids=["list", "tuple", "dict", "text keys", "titles"],
)
def test_class_names_in_any_form(tmp_path: Path, network: Any, names: Any) -> None:
    backwards = SPINAL.classes[::-1]
    network.names = names(backwards)
    assert read(tmp_path, {"model": network}).order == tuple(range(14, -1, -1))


@pytest.mark.parametrize("config", ["yolov5n", "yolov9t", "yolo11n", "yolo12n"])
def test_other_plain_detectors_of_ultralytics_are_rewritten(tmp_path: Path, config: str) -> None:
    from ultralytics.nn.tasks import DetectionModel

    from rsna_lumbar.export.graph.rewrite import rewrite

    model = DetectionModel(f"{config}.yaml", ch=1, nc=15, verbose=False)
    model.names = list(SPINAL.classes)
    assert rewrite(read(tmp_path, {"model": model}))


# --- what is refused: nothing that can be opened


def damaged(content: bytes) -> bytes:
    """Zeros in the middle: PyTorch loads it, with other weights."""
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[: len(content) // 2], "is damaged or incomplete; copy"),
        (lambda content: content[:-1000], "is damaged or incomplete; copy"),
        (damaged, "is damaged or incomplete; copy"),
        (lambda _: b"", "is empty; copy or download it again"),
        (lambda _: b"PK\x03\x04" + bytes(200), "is damaged or incomplete"),
        (lambda _: b"no pickle at all", "is not a PyTorch checkpoint; name the best.pt"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (lambda _: b"<!DOCTYPE html><html><body>Sign in", "is a web page"),
        (lambda _: pickle.dumps({"epoch": 1}), "a pickle from before PyTorch 1.6, or not from"),
    ],
)
def test_what_is_no_whole_file(
    tmp_path: Path, make_checkpoint: Any, spoil: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(spoil(make_checkpoint(SPINAL, "n", 1).path.read_bytes()))
    assert message in refusal(path)


def test_an_onnx_file_by_that_name(tmp_path: Path) -> None:
    text = '<ir_version: 9, opset_import: ["" : 18]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    path = tmp_path / "best.pt"
    path.write_bytes(parser.parse_model(text).SerializeToString())
    assert "is an ONNX model; export the checkpoint (.pt)" in refusal(path)


def test_an_archive_around_it(tmp_path: Path, make_checkpoint: Any) -> None:
    path = tmp_path / "best.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(make_checkpoint(SPINAL, "n", 1).path, "weights/best.pt")
    assert "is a zip archive, not a PyTorch checkpoint; unpack it" in refusal(path)


def test_another_suffix(tmp_path: Path, make_checkpoint: Any) -> None:
    path = tmp_path / "best.pth"
    path.write_bytes(make_checkpoint(SPINAL, "n", 1).path.read_bytes())
    assert "does not end in .pt" in refusal(path)


@pytest.mark.filterwarnings("ignore")  # that TorchScript is of the past
def test_a_torchscript_export(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert "is a TorchScript export; export the checkpoint" in refusal(path)


def test_the_old_format_of_pytorch(tmp_path: Path, network: Any) -> None:
    path = saved(tmp_path, {"model": network}, _use_new_zipfile_serialization=False)
    assert "torch.save(torch.load('best.pt', weights_only=False), 'new.pt')" in refusal(path)
    torch.save(torch.load(path, weights_only=False), path)
    assert read_checkpoint(path, SPINAL)


# --- what is refused: nothing that is a detector


@pytest.mark.parametrize(
    "content",
    [
        lambda network: network.state_dict(),
        lambda network: {"model": network.state_dict(), "epoch": 3},
        lambda network: {"state_dict": network.state_dict()},
        lambda network: {"model_state_dict": network.state_dict(), "optimizer": {}},
    ],
)
def test_weights_without_their_network(tmp_path: Path, network: Any, content: Any) -> None:
    line = refusal(saved(tmp_path, content(network)))
    assert "has weights without their network (a state dict); load them into their YOLO" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": None, "ema": None}, "has no network (neither model nor ema)"),
        ({"epoch": 3}, "has no network"),
        (torch.zeros(3), "is a Tensor, not a checkpoint"),
        ([1, 2], "is a list, not a checkpoint"),
        ({"model": torch.nn.Sequential()}, "has a Sequential, not a detection model"),
        ({"model": torch.nn.DataParallel(torch.nn.Linear(2, 2))}, "save the network itself, its"),
    ],
)
def test_what_holds_no_network(tmp_path: Path, content: Any, message: str) -> None:
    assert message in refusal(saved(tmp_path, content))


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("SegmentationModel", "yolov8n-seg"),
        ("OBBModel", "yolov8n-obb"),
        ("ClassificationModel", "yolov8n-cls"),
        ("RTDETRDetectionModel", "rtdetr-resnet50"),
    ],
)
def test_other_tasks(tmp_path: Path, kind: str, config: str) -> None:
    from ultralytics.nn import tasks

    model = getattr(tasks, kind)(f"{config}.yaml", ch=3, nc=15, verbose=False)
    model.names = list(SPINAL.classes)
    line = refusal(saved(tmp_path, {"model": model}))
    assert f"has a {kind}, not a detection model; train one with rsna-train fit" in line


@pytest.mark.parametrize("names", [None, 15, {1: "a", 2: "b"}, {"spinal": 0}])
def test_no_class_names(tmp_path: Path, network: Any, names: object) -> None:
    network.names = names
    assert "has no list of class names" in refusal(saved(tmp_path, {"model": network}))
    del network.names
    assert "has no list of class names" in refusal(saved(tmp_path, {"model": network}))


def test_train_args_of_another_form(tmp_path: Path, network: Any) -> None:
    from ultralytics.utils import IterableSimpleNamespace

    args = IterableSimpleNamespace(imgsz=96)
    line = refusal(saved(tmp_path, {"model": network, "train_args": args}))
    assert "has train_args that are not a dictionary; save it again with vars(train_args)" in line


# --- what is refused: code that is not there


def gone_after(monkeypatch: pytest.MonkeyPatch, module: str, name: str, base: type) -> type:
    """A class of a module that there is only until the end of the test, as where it was trained."""
    there = types.ModuleType(module)
    made = type(name, (base,), {"__module__": module})
    setattr(there, name, made)
    if "." in module:
        monkeypatch.setitem(sys.modules, module.partition(".")[0], types.ModuleType("parent"))
    monkeypatch.setitem(sys.modules, module, there)
    return made


def test_a_trainer_that_is_missing(
    tmp_path: Path, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the line says to do gives a checkpoint that is read."""
    with monkeypatch.context() as where_it_was_trained:
        trainer = gone_after(where_it_was_trained, "my_code", "MyTrainer", object)
        args = {"imgsz": 96, "trainer": trainer}
        path = saved(tmp_path, {"model": network, "train_args": args})
        c = torch.load(path, weights_only=False)
        plain = {
            "model": c.get("ema") or c["model"],
            "train_args": {"imgsz": c["train_args"]["imgsz"]},
        }
        torch.save(plain, tmp_path / "plain.pt")
    line = refusal(path)
    assert "refers to my_code.MyTrainer, code that is not of ultralytics; where it can" in line
    assert read_checkpoint(tmp_path / "plain.pt", SPINAL).trained_size_px == 96


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("my_code", "MyModel", "refers to my_code.MyModel, code that is not of ultralytics"),
        ("models.yolo", "DetectionModel", "like checkpoints of the YOLOv5, v7 and v9 repositories"),
        ("ultralytics.nn.of_tomorrow", "Block", "or update ultralytics"),
    ],
)
def test_a_network_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, message: str
) -> None:
    with monkeypatch.context() as where_it_was_trained:
        made = gone_after(where_it_was_trained, module, name, torch.nn.Linear)
        path = saved(tmp_path, {"model": made(2, 2)})
    assert message in refusal(path)


def test_a_whole_yolo_object(tmp_path: Path) -> None:
    from ultralytics import YOLO

    line = refusal(saved(tmp_path, YOLO("yolov8n.yaml")))
    assert "refers to ultralytics.models.yolo.model.YOLO" in line and "with YOLO.save()" in line
