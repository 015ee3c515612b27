"""Why a file is no checkpoint that can be loaded, and what to do: a clause for one line.

What people have under the name ``best.pt``: a copy that broke off, a web page or a Git LFS pointer
in place of it, an exported model, the weights of a network without the network, a checkpoint of
another repository's YOLO, and one that refers to code of the person who trained it. ultralytics
says the same of most of them, so the file itself is looked at. Nothing of it is run.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

HEAD_BYTES = 64
ZIP_HEAD = b"PK\x03\x04"
PICKLE_HEAD = b"\x80"
CUT = "is damaged or only a part of it; copy or download it again"
OLD_FORM = (
    "is a pickle of before PyTorch 1.6, or of something else; where you trust it, save it again: "
    "torch.save(torch.load('best.pt', weights_only=False), 'new.pt')"
)
# What is often found in place of a file, by its first bytes.
OTHER_FILES = (
    (b"", "is empty; copy or download it again"),
    (b"version https://git-lfs", "is a Git LFS pointer; get the file itself with git lfs pull"),
    (b"<!doctype html", "is a web page; the download asked for something, download it by hand"),
    (b"<html", "is a web page; the download asked for something, download it by hand"),
)
TORCHSCRIPT_PART = "constants.pkl"
OF_OTHER_REPOSITORIES = ("models.", "yolov5.", "yolov7.", "utils.")
REFUSED_CLASS = re.compile(r"GLOBAL ([\w.]+)")
MISSING_CLASS = re.compile(r"Can't get attribute '(\w+)' on <module '([\w.]+)'")
MISSING_MODULE = re.compile(r"No module named '([\w.]+)'")


def other_file(path: Path) -> str | None:
    """What a file is that is no whole PyTorch file, and what to do; None where it may be one.

    Checksums are compared here, since PyTorch does not: a damaged file may load with other weights.
    """
    if path.suffix.lower() != ".pt":
        return f"is not named .pt, as checkpoints are; rename it if {path.name} is one"
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    for beginning, meaning in OTHER_FILES:
        if head.lower().startswith(beginning) and (beginning or not head):
            return meaning
    if head.startswith(ZIP_HEAD):
        return _told_by_the_zip(path)
    if head.startswith(PICKLE_HEAD):
        return None
    if _is_onnx(path):
        return "is an ONNX model; export the checkpoint (.pt) that it was made from"
    return "is no PyTorch checkpoint; name the best.pt that the training wrote"


def why_not_loaded(path: Path, error: Exception) -> str:
    """What is wrong with a file that ultralytics could not load, and what to do.

    Args:
        path: of a PyTorch file.
        error: what ultralytics raised.
    """
    return _told_by_a_class(error) or _told_by_the_form(path, error)


def _told_by_the_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            whole = archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return CUT
    if not whole:
        return CUT
    if any(name.rpartition("/")[2] == TORCHSCRIPT_PART for name in names):
        return "is a TorchScript export; export the checkpoint (.pt) that it was made from"
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "is a zip archive and no PyTorch checkpoint; unpack it and name the .pt inside"
    return None


def _is_onnx(path: Path) -> bool:
    import onnx

    try:
        return len(onnx.load_model(path, load_external_data=False).graph.node) > 0
    except Exception:  # whatever a parser says of a file of another kind
        return False


def _told_by_a_class(error: BaseException | None) -> str | None:
    """By the class that the file refers to and that is not allowed, or not there."""
    name = None
    while error is not None and name is None:
        name, error = _class_in(str(error)), error.__cause__ or error.__context__
    if name is None:
        return None
    if name.startswith(OF_OTHER_REPOSITORIES) or name == "models":
        return (
            f"refers to {name}, as checkpoints of the YOLOv5, v7 and v9 repositories do; train a "
            "YOLOv8 detector with ultralytics, or with rsna-train fit"
        )
    if name.startswith("ultralytics."):
        return (
            f"refers to {name}, which ultralytics {version('ultralytics')} does not load; save the "
            "model again where it was trained, with YOLO.save(), or update ultralytics"
        )
    if name.endswith("DataParallel"):
        return "holds a network inside a DataParallel; save the network itself, its .module"
    return (
        f"refers to {name}, code that is not of ultralytics; where that can be imported, save the "
        "network alone, which must be a plain YOLOv8: c = torch.load('best.pt', "
        "weights_only=False); torch.save({'model': c.get('ema') or c['model'], 'train_args': "
        "{'imgsz': c['train_args']['imgsz']}}, 'plain.pt')"
    )


def _class_in(message: str) -> str | None:
    if found := REFUSED_CLASS.search(message):
        return found[1]
    if found := MISSING_CLASS.search(message):
        return f"{found[2]}.{found[1]}"
    return found[1] if (found := MISSING_MODULE.search(message)) else None


def _told_by_the_form(path: Path, error: Exception) -> str:
    """By what is in a file that can be read."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle can raise anything
        with path.open("rb") as stream:
            return _unknown(error) if stream.read(1) != PICKLE_HEAD else OLD_FORM
    if not isinstance(content, Mapping):
        return f"holds a {type(content).__name__}, no checkpoint; name the best.pt of the training"
    parts = [content, *content.values()]
    if not _has_network(content) and any(map(_is_state_dict, parts)):
        return (
            "holds weights without their network (a state dict); load them into the YOLO model "
            "that they are of, and save that with YOLO.save()"
        )
    if not _has_network(content):
        return "holds no network (neither model nor ema); name the best.pt of the training"
    if not isinstance(content.get("train_args", {}), Mapping):
        return "has train_args that are no dictionary; save it again with vars(train_args)"
    return _unknown(error)


def _unknown(error: Exception) -> str:
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return f"cannot be loaded as an ultralytics checkpoint ({first_line})"


def _has_network(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(content.get(key), torch.nn.Module) for key in ("model", "ema"))


def _is_state_dict(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and len(part) > 0
        and all(isinstance(value, torch.Tensor) for value in part.values())
    )
