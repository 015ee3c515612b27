"""Counts of a data set: boxes per class and part, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from rsna_lumbar.runtime.core.labels import GRADES, Group
from rsna_lumbar.runtime.core.text_table import aligned
from rsna_lumbar.train.dataset.annotations import LeftOut
from rsna_lumbar.train.dataset.slice_images import Standing
from rsna_lumbar.train.dataset.split import PARTS

UNGRADED = "(no grade)"
STANDING_TITLES = {  # shown if there are such images
    Standing.TURNED: "turned upright",
    Standing.UNKNOWN: "as stored: no orientation",
}


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """Counts of one group."""

    group: str
    images: Mapping[str, int]  # by part
    classes: Mapping[str, Mapping[str, int]]  # class (or UNGRADED) -> part or reason -> count
    standing: Mapping[str, Mapping[str, int]]  # a Standing -> part -> images

    @property
    def boxes(self) -> dict[str, int]:
        """Boxes by part."""
        return {part: self._total(part) for part in PARTS}

    @property
    def left_out(self) -> dict[str, int]:
        """Unused labels and points by reason."""
        return {reason.value: n for reason in LeftOut if (n := self._total(reason.value))}

    def _total(self, column: str) -> int:
        return sum(counts.get(column, 0) for counts in self.classes.values())


def summarise(
    group: Group,
    used: pd.DataFrame,
    images: Mapping[str, Mapping[str, int]],
    left_out: pd.DataFrame,
) -> GroupSummary:
    """Count boxes (``used``: rows with ``part`` and ``class_index``) and what was left out.

    ``images`` are counted by Standing and part.
    """
    counts = Counter(
        (group.classes[index], str(part))
        for index, part in zip(used["class_index"], used["part"], strict=True)
    )
    columns_of_class = ["condition", "level", "grade", "reason"]
    for *of_class, reason in left_out[columns_of_class].itertuples(index=False):
        counts[_class_name(*of_class), str(reason)] += 1
    reasons = [reason.value for reason in LeftOut]
    by_class = {
        name: {part: counts[name, part] for part in PARTS}
        | {reason: counts[name, reason] for reason in reasons if counts[name, reason]}
        for name in (*group.classes, UNGRADED)
    }
    if not any(by_class[UNGRADED].values()):
        del by_class[UNGRADED]
    by_part = {part: sum(counted[part] for counted in images.values()) for part in PARTS}
    standing = {name: dict(counted) for name, counted in images.items()}
    return GroupSummary(group=group.name, images=by_part, classes=by_class, standing=standing)


def _class_name(condition: str, level: str, grade: float | None) -> str:
    return UNGRADED if pd.isna(grade) else f"{condition}_{level}_{GRADES[int(grade)]}"


def as_table(summary: GroupSummary) -> str:
    """A row per class; a column per part and per reason that occurs."""
    reasons = list(summary.left_out)
    head = [summary.group, *PARTS, *(reason.replace("_", " ") for reason in reasons)]
    rows = [
        [name, *(str(counts.get(column, 0)) for column in (*PARTS, *reasons))]
        for name, counts in summary.classes.items()
    ]
    total = ["boxes", *(str(n) for n in (*summary.boxes.values(), *summary.left_out.values()))]
    blank = [""] * len(reasons)
    images = ["images", *(str(n) for n in summary.images.values()), *blank]
    standing = [
        [f"  {title}", *(str(summary.standing[name][part]) for part in PARTS), *blank]
        for name, title in STANDING_TITLES.items()
        if any(summary.standing[name].values())
    ]
    return aligned([head, *rows, total, images, *standing])
