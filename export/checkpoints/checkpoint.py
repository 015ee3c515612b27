"""A YOLOv8 checkpoint: load it, refuse what cannot be rewritten exactly, find its class order.

Canonical class c of the group is class ``order[c]`` of the checkpoint. Names are compared in
lower case, with every run of other signs as one ``_``: ``Spinal Canal Stenosis L1/L2 Severe`` is
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
        """Side of the squares that it was trained on; None where not known, or no squares."""
        sides = set(self.trained_px or ())
        return sides.pop() if len(sides) == 1 else None


def read_checkpoint(path: Path, group: Group | None = None) -> Checkpoint:
    """Load a checkpoint and check that it is a detector of that group.

    Args:
        path: a ``.pt`` file as ultralytics saves it.
        group: what it should detect; None takes the group whose class names it has.

    Raises:
        CheckpointError: it cannot be read, is no YOLOv8-like detector with one class branch on
            strides 8, 16 and 32, or its classes are not those of the group.
    """
    prepare_third_party("export")
    network, arguments = _load(path)
    head = check_network(network, path)
    names = class_names(getattr(network, "names", None), path)
    group = group or _group_of(names, path)
    return Checkpoint(
        path=path,
        sha256=sha256_of(path),
        group=group,
        network=network.requires_grad_(False),
        order=class_order(names, group, path, outputs=head.nc),
        channels=network.model[0].conv.in_channels,
        trained_px=_rows_and_columns(arguments.get("imgsz")),
    )


def check_network(network: Any, path: Path) -> Any:
    """Refuse a network that the rewrite does not cover; return its head."""
    from ultralytics.nn.modules import Detect
    from ultralytics.nn.tasks import DetectionModel

    kind = type(network)
    if kind is not DetectionModel:
        raise CheckpointError(
            f"{path} holds a {kind.__name__}, not a detection model; train one with rsna-train fit"
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
    _check_layers(network, head, path)
    return head


def class_names(names: Any, path: Path) -> tuple[str, ...]:
    """``names`` of a checkpoint, a list or a mapping from 0 on, as normalised names.

    Raises:
        CheckpointError: they are neither.
    """
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
    """``imgsz`` as ultralytics takes it: one side, or rows and columns; None for anything else."""
    sides = list(imgsz) if isinstance(imgsz, list | tuple) else [imgsz]
    if not 1 <= len(sides) <= 2 or not all(type(side) is int and side > 0 for side in sides):
        return None
    return sides[0], sides[-1]


def normalised(name: str) -> str:
    """Lower case, every run of signs that are no letter or digit as one ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def class_order(
    names: tuple[str, ...], group: Group, path: Path, *, outputs: int
) -> tuple[int, ...]:
    """Where each canonical class stands in the checkpoint.

    Raises:
        CheckpointError: names other than the group's, missing or doubled, or another number of
            outputs than of names.
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
        raise CheckpointError(f"{path} is not there")
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
    """A network that ``torch.save`` wrote with no dictionary around it, and its arguments.

    ultralytics takes it for a YOLO object and gives back its layers.
    """
    from ultralytics.utils import SAFE_LOAD

    whole = torch.load(path, map_location="cpu", weights_only=SAFE_LOAD)
    if not isinstance(whole, nn.Module):
        return layers, None
    return whole.float().eval(), getattr(whole, "args", None)


def _check_layers(network: Any, head: Any, path: Path) -> None:
    first = getattr(network.model[0], "conv", None)
    if not isinstance(first, nn.Conv2d) or first.groups != 1:
        raise CheckpointError(f"{path} does not start with a plain convolution")
    if first.in_channels not in INPUT_CHANNELS:
        raise CheckpointError(f"{path} reads {first.in_channels} channels; expected 1 or 3")
    if not all(isinstance(branch[-1], nn.Conv2d) for branch in head.cv3):
        raise CheckpointError(f"{path} has an unknown class branch")
    if not all(torch.isfinite(tensor).all() for tensor in network.state_dict().values()):
        raise CheckpointError(f"{path} has weights that are not finite; its training failed")


def _group_of(names: tuple[str, ...], path: Path) -> Group:
    for group in GROUPS:
        if set(names) == set(group.classes):
            return group
    raise CheckpointError(f"{path} has {len(names)} classes that are of no group: {_shown(names)}")


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more
