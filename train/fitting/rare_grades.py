"""Use slices with a moderate or severe label several times per epoch.

A training set of ultralytics may be a list of image files, with repeated files.
"""

from __future__ import annotations

from pathlib import Path

from rsna_lumbar.runtime.core.labels import GRADES, MODERATE
from rsna_lumbar.runtime.system.atomic_files import write_atomically

SLICE_LIST = "train.txt"  # in the trainer's folder


def write_slice_list(data: Path, target: Path, repeats: int) -> None:
    """Write a line per training slice, and ``repeats`` lines per slice with a rare grade.

    Args:
        data: folder of the group's data set.
        target: text file of absolute paths.
    """
    images = sorted((data / "images" / "train").resolve().glob("*.png"))
    labels = data / "labels" / "train"
    lines = [
        f"{image}\n" * (repeats if has_rare_grade(labels / f"{image.stem}.txt") else 1)
        for image in images
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, "".join(lines))


def has_rare_grade(labels: Path) -> bool:
    """Whether a YOLO label file has a class of a grade other than normal/mild."""
    classes = (int(line.split()[0]) for line in labels.read_text(encoding="ascii").splitlines())
    return any(index % len(GRADES) >= MODERATE for index in classes)
