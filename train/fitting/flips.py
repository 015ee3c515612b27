"""Left-right mirror images for training, with left and right classes exchanged.

The mirror image of an axial slice is an axial slice again, in which what was left is right: its
labels must change sides, or the detector learns to call either side left. A sagittal slice would
be mirrored front to back, which no patient looks like, so that is refused.
"""

from __future__ import annotations

import random
from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, Group

_OTHER_SIDE = {"left": "right", "right": "left"}


def is_axial(group: Group) -> bool:
    """Whether a left-right flip of the group's slices exchanges the patient's sides."""
    return group.series_kind.startswith("Axial")


_AXIAL_CLASSES = frozenset(name for group in GROUPS if is_axial(group) for name in group.classes)


def swapped_classes(names: Sequence[str]) -> tuple[int, ...]:
    """For each class the index of the one that it becomes in a mirror image.

    Args:
        names: class names in the order of the data set, of a detector of axial slices.

    Raises:
        UsageError: a class is not one of axial slices, or its partner is missing.
    """
    index_of = {name: index for index, name in enumerate(names)}
    return tuple(index_of[_partner(name, index_of)] for name in names)


def _partner(name: str, names: Container[str]) -> str:
    if name not in _AXIAL_CLASSES:
        raise UsageError(f"{name} is no class of axial slices; train it without flips")
    side, _, rest = name.partition("_")
    partner = f"{_OTHER_SIDE[side]}_{rest}"
    if partner not in names:
        raise UsageError(f"{name} comes without {partner}; train it without flips")
    return partner


class SideSafeFlip:
    """Mirrors image, boxes and sides of a share of the slices.

    It takes and returns the records that ultralytics' transforms pass on, and draws from
    ``random`` as they do, so that seeds and loading processes are treated alike.

    Args:
        share: probability of a flip, 0 to 1.
        swapped: as :func:`swapped_classes` returns it.
    """

    def __init__(self, share: float, swapped: Sequence[int]) -> None:
        self._share = share
        self._swapped = np.array(swapped)

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        if random.random() < self._share:
            self._flip(labels)
        return labels

    def _flip(self, labels: dict[str, Any]) -> None:
        image, instances, classes = labels["img"], labels["instances"], labels["cls"]
        labels["img"] = np.fliplr(image)  # (rows, columns, channels)
        instances.convert_bbox(format="xywh")
        instances.fliplr(1 if instances.normalized else image.shape[1])
        labels["cls"] = self._swapped[classes.astype(int)].astype(classes.dtype)  # (boxes, 1)
