"""Why a file cannot be loaded as a checkpoint, and what to do: half a sentence.

Files named ``best.pt`` may be incomplete copies, web pages, Git LFS pointers, exported models, the
weights of a network without the network, checkpoints of other YOLO repositories, or checkpoints
that need the code of the person who trained them. ultralytics gives the same message for most of
them, so the file itself is examined. None of its code is run.
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
CUT = "is damaged or incomplete; copy or download it again"
OLD_FORM = (
    "is a pickle from before PyTorch 1.6, or not from PyTorch; if you trust it, save it again: "
    "torch.save(torch.load('best.pt', weights_only=False), 'new.pt')"
)
# Other files that often have the name of a checkpoint, by their first bytes.
OTHER_FILES = (
    (b"", "is empty; copy or download it again"),
    (b"version https://git-lfs", "is a Git LFS pointer; get the file itself with git lfs pull"),
    (b"<!doctype html", "is a web page, perhaps a login; download the file with a browser"),
    (b"<html", "is a web page, perhaps a login; download the file with a browser"),
)
OF_OTHER_REPOSITORIES = ("models.", "yolov5.", "yolov7.", "utils.")
# Errors that name a class or module, the last part of the name first.
REFERENCES = (
    re.compile(r"GLOBAL ([\w.]+)"),
    re.compile(r"Can't get attribute '(\w+)' on <module '([\w.]+)'"),
    re.compile(r"No module named '([\w.]+)'"),
)


def other_file(path: Path) -> str | None:
    """Why a file is not a complete PyTorch file, and what to do; None if it may be one.

    Checksums are compared, because PyTorch does not: a damaged file may load with other weights.
    """
    if path.suffix.lower() != ".pt":
        return f"does not end in .pt; rename {path.name} if it is a checkpoint"
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
    return "is not a PyTorch checkpoint; name the best.pt that the training wrote"


def why_not_loaded(path: Path, error: Exception) -> str:
    """Why ultralytics raised an error for a PyTorch file, and what to do."""
    return _told_by_a_class(error) or _told_by_the_form(path, error)


def _told_by_the_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            if archive.testzip() is not None:
                return CUT
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return CUT
    if "constants.pkl" in names:
        return "is a TorchScript export; export the checkpoint (.pt) that it was made from"
    if "data.pkl" not in names:
        return "is a zip archive, not a PyTorch checkpoint; unpack it and name the .pt inside"
    return None


def _is_onnx(path: Path) -> bool:
    import onnx

    try:
        return len(onnx.load_model(path, load_external_data=False).graph.node) > 0
    except Exception:  # a parser may raise anything for another kind of file
        return False


def _told_by_a_class(error: BaseException | None) -> str | None:
    """The reason, if a class that the file refers to is not allowed or does not exist."""
    name = None
    while error is not None and name is None:
        name, error = _class_in(str(error)), error.__cause__ or error.__context__
    if name is None:
        return None
    if name.startswith(OF_OTHER_REPOSITORIES) or name == "models":
        return (
            f"refers to {name}, like checkpoints of the YOLOv5, v7 and v9 repositories; train a "
            "YOLOv8 detector with ultralytics, or with rsna-train fit"
        )
    if name.startswith("ultralytics."):
        return (
            f"refers to {name}, which ultralytics {version('ultralytics')} does not load; save the "
            "model again where it was trained, with YOLO.save(), or update ultralytics"
        )
    if name.endswith("DataParallel"):
        return "has its network inside a DataParallel; save the network itself, its .module"
    return (
        f"refers to {name}, code that is not of ultralytics; where it can be imported, save the "
        "network alone, which must be a plain YOLOv8: c = torch.load('best.pt', "
        "weights_only=False); torch.save({'model': c.get('ema') or c['model'], 'train_args': "
        "{'imgsz': c['train_args']['imgsz']}}, 'plain.pt')"
    )


def _class_in(message: str) -> str | None:
    found = next(filter(None, (pattern.search(message) for pattern in REFERENCES)), None)
    return ".".join(reversed(found.groups())) if found else None


def _told_by_the_form(path: Path, error: Exception) -> str:
    """The reason, from the contents that can be read."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle can raise anything
        with path.open("rb") as stream:
            return _unknown(error) if stream.read(1) != PICKLE_HEAD else OLD_FORM
    if not isinstance(content, Mapping):
        return f"is a {type(content).__name__}, not a checkpoint; name the best.pt of the training"
    parts = [content, *content.values()]
    if not _has_network(content) and any(map(_is_state_dict, parts)):
        return (
            "has weights without their network (a state dict); load them into their YOLO model, "
            "and save that with YOLO.save()"
        )
    if not _has_network(content):
        return "has no network (neither model nor ema); name the best.pt of the training"
    if not isinstance(content.get("train_args", {}), Mapping):
        return "has train_args that are not a dictionary; save it again with vars(train_args)"
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
