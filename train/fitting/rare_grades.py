"""Slices with a moderate or severe label, seen several times in an epoch.

ultralytics takes a list of image files for a training set, in which a file may stand repeatedly.
"""

from __future__ import annotations

from pathlib import Path

from rsna_lumbar.runtime.core.labels import GRADES, MODERATE
from rsna_lumbar.runtime.system.atomic_files import write_atomically

SLICE_LIST = "train.txt"  # in the trainer's folder


def write_slice_list(data: Path, target: Path, repeats: int) -> None:
    """Write a line for each training slice, and ``repeats`` for one that carries a rare grade.

    Args:
        data: folder of the group's data set.
        target: text file of absolute paths.
        repeats: 1 or more.
    """
    images = sorted((data / "images" / "train").resolve().glob("*.png"))
    lines = [
        f"{image}\n" * (repeats if has_rare_grade(_labels_of(image)) else 1) for image in images
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, "".join(lines))


def has_rare_grade(labels: Path) -> bool:
    """Whether a YOLO label file holds a class of another grade than normal or mild."""
    classes = (int(line.split()[0]) for line in labels.read_text(encoding="ascii").splitlines())
    return any(index % len(GRADES) >= MODERATE for index in classes)


def _labels_of(image: Path) -> Path:
    return image.parents[2] / "labels" / image.parent.name / f"{image.stem}.txt"
