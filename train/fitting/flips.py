"""Left-right mirror images for training, with left and right classes exchanged.

The mirror image of an axial slice is an axial slice with left and right exchanged: its labels must
change sides, or the detector does not learn the sides. A mirrored sagittal slice would have front
and back exchanged, which no patient has, so it is refused.
"""

from __future__ import annotations

import random
from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import GROUPS

_OTHER_SIDE = {"left": "right", "right": "left"}


_AXIAL_CLASSES = frozenset(
    name for group in GROUPS if group.plane == "axial" for name in group.classes
)


def swapped_classes(names: Sequence[str]) -> tuple[int, ...]:
    """For each class, the index of its class in a mirror image.

    Args:
        names: class names of a detector of axial slices, in the order of the data set.

    Raises:
        UsageError: a class does not belong to axial slices, or its partner is missing.
    """
    index_of = {name: index for index, name in enumerate(names)}
    return tuple(index_of[_partner(name, index_of)] for name in names)


def _partner(name: str, names: Container[str]) -> str:
    if name not in _AXIAL_CLASSES:
        raise UsageError(f"{name} is not a class of axial slices; train it without flips")
    side, _, rest = name.partition("_")
    partner = f"{_OTHER_SIDE[side]}_{rest}"
    if partner not in names:
        raise UsageError(f"{name} comes without {partner}; train it without flips")
    return partner


class SideSafeFlip:
    """Mirrors image, boxes and classes of a share (0 to 1) of the slices.

    It takes and returns the records of ultralytics' transforms, and draws from ``random`` like
    them, so that seeds and loading processes have the same effect.
    ``swapped``: from :func:`swapped_classes`.
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
