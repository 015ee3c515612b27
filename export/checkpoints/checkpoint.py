"""Load a YOLOv8 checkpoint, check that it can be rewritten exactly, and find its class order.

Canonical class c of the group is class ``order[c]`` of the checkpoint. Names are compared in lower
case, with ``_`` for every run of other characters: ``Spinal Canal Stenosis L1/L2 Severe`` is
``spinal_canal_stenosis_l1_l2_severe``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rsna_lumbar.export.checkpoints.not_loaded import other_file, why_not_loaded
from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.core.anchors import STRIDES_PX
from rsna_lumbar.runtime.core.errors import CheckpointError
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

INPUT_CHANNELS = (1, 3)
NAMES_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The unmodified network of a ``.pt`` file, in float32 and in evaluation mode."""

    path: Path
    sha256: str
    group: Group
    network: Any  # ultralytics' DetectionModel, which has no types
    order: tuple[int, ...]  # canonical class -> class of the checkpoint
    channels: int  # 1 or 3
    trained_px: tuple[int, int] | None  # rows and columns: ``imgsz`` of its training, if saved

    @property
    def trained_size_px(self) -> int | None:
        """Side of the squares that it was trained on; None if unknown, or if not squares."""
        sides = set(self.trained_px or ())
        return sides.pop() if len(sides) == 1 else None


def read_checkpoint(path: Path, group: Group | None = None) -> Checkpoint:
    """Load a checkpoint and check that it is a detector of a group.

    Args:
        path: a ``.pt`` file as ultralytics saves it.
        group: the expected group; None takes the group whose class names it has.

    Raises:
        CheckpointError: it cannot be read, is not a YOLOv8-like detector with one class branch on
            strides 8, 16 and 32, or its classes are not those of the group.
    """
    prepare_third_party("export")
    network, arguments = _load(path)
    head = _checked_head(network, path)
    names = _class_names(getattr(network, "names", None), path)
    group = group or next((one for one in GROUPS if set(names) == set(one.classes)), None)
    if group is None:
        raise CheckpointError(f"{path} has {len(names)} classes that fit no group: {_shown(names)}")
    return Checkpoint(
        path=path,
        sha256=sha256_of(path),
        group=group,
        network=network.requires_grad_(False),
        order=class_order(names, group, path, outputs=head.nc),
        channels=network.model[0].conv.in_channels,
        trained_px=_rows_and_columns(arguments.get("imgsz")),
    )


def _checked_head(network: Any, path: Path) -> Any:
    """The head of a network that the rewrite covers; raises CheckpointError for others."""
    from ultralytics.nn.modules import Detect
    from ultralytics.nn.tasks import DetectionModel

    kind = type(network)
    if kind is not DetectionModel:
        raise CheckpointError(
            f"{path} has a {kind.__name__}, not a detection model; train one with rsna-train fit"
        )
    head = network.model[-1]
    if getattr(head, "one2one_cv3", None) is not None or getattr(head, "end2end", False):
        raise CheckpointError(
            f"{path} has an end-to-end head (one2one, as YOLOv10 and YOLO26 have), whose peaks "
            "are not those of the class branch; train a YOLOv8 detector"
        )
    if type(head) is not Detect:
        raise CheckpointError(f"{path} has an unknown head ({type(head).__name__}, not Detect)")
    if tuple(head.stride.tolist()) != STRIDES_PX:
        strides = ", ".join(f"{stride:g}" for stride in head.stride.tolist())
        raise CheckpointError(f"{path} has strides {strides}; expected 8, 16, 32")
    first = getattr(network.model[0], "conv", None)
    if not isinstance(first, nn.Conv2d) or first.groups != 1:
        raise CheckpointError(f"{path} does not start with a plain convolution")
    if first.in_channels not in INPUT_CHANNELS:
        raise CheckpointError(f"{path} reads {first.in_channels} channels; expected 1 or 3")
    branches: Any = head.cv3
    if not all(isinstance(branch[-1], nn.Conv2d) for branch in branches):
        raise CheckpointError(f"{path} has an unknown class branch")
    if not all(torch.isfinite(tensor).all() for tensor in network.state_dict().values()):
        raise CheckpointError(f"{path} has weights that are not finite; its training failed")
    return head


def _class_names(names: Any, path: Path) -> tuple[str, ...]:
    """Normalised class names; ``names`` of a checkpoint is a list, or a mapping from 0 on."""
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping) or {str(key) for key in names} != {
        str(index) for index in range(len(names))
    }:
        raise CheckpointError(
            f"{path} has no list of class names; name its classes <condition>_<level>_<grade> in "
            "the order of its training (model.names)"
        )
    by_index = {int(str(key)): name for key, name in names.items()}
    return tuple(normalised(str(by_index[index])) for index in range(len(by_index)))


def _rows_and_columns(imgsz: Any) -> tuple[int, int] | None:
    """``imgsz`` as in ultralytics: one side, or rows and columns; None for anything else."""
    sides = list(imgsz) if isinstance(imgsz, list | tuple) else [imgsz]
    if not 1 <= len(sides) <= 2 or not all(type(side) is int and side > 0 for side in sides):
        return None
    return sides[0], sides[-1]


def normalised(name: str) -> str:
    """Lower case, with ``_`` for every run of characters other than letters and digits."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def class_order(
    names: tuple[str, ...], group: Group, path: Path, *, outputs: int
) -> tuple[int, ...]:
    """The place of each canonical class in the checkpoint.

    Raises:
        CheckpointError: the names are not those of the group, or not as many as the outputs.
    """
    unexpected = sorted(set(names) - set(group.classes))
    missing = [name for name in group.classes if name not in names]
    if unexpected or missing or len(names) != len(group.classes) or outputs != len(names):
        detail = "; ".join(
            f"{what} {_shown(found)}"
            for what, found in (("unexpected", unexpected), ("missing", missing))
            if found
        )
        raise CheckpointError(
            f"{path} has {len(names)} class names on {outputs} outputs that are not the "
            f"{len(group.classes)} of {group.name}" + (f": {detail}" if detail else "")
        )
    return tuple(names.index(name) for name in group.classes)


def _load(path: Path) -> tuple[Any, dict[str, Any]]:
    from ultralytics.nn.tasks import load_checkpoint

    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    if fault := other_file(path):
        raise CheckpointError(f"{path} {fault}")
    try:
        network, content = load_checkpoint(path)  # type: ignore[no-untyped-call]
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(f"{path} {why_not_loaded(path, error)}") from error
    arguments = content.get("train_args")
    if isinstance(network, nn.Sequential):
        network, arguments = _saved_whole(path, network)
    return network, arguments if isinstance(arguments, dict) else {}


def _saved_whole(path: Path, layers: nn.Sequential) -> tuple[Any, Any]:
    """A network that ``torch.save`` wrote without a dictionary around it, and its arguments.

    ultralytics mistakes it for a YOLO object and returns its layers.
    """
    from ultralytics.utils import SAFE_LOAD

    whole = torch.load(path, map_location="cpu", weights_only=SAFE_LOAD)
    if not isinstance(whole, nn.Module):
        return layers, None
    return whole.float().eval(), getattr(whole, "args", None)


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more
