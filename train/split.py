"""Which studies are for training and which for validation: by study, the same for all groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsna_lumbar.runtime.errors import DataError


@dataclass(frozen=True, slots=True)
class Split:
    """Studies by part, each sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]

    @property
    def part_of(self) -> dict[str, str]:
        return dict.fromkeys(self.train, "train") | dict.fromkeys(self.val, "val")


def split_studies(studies: Sequence[str], val_fraction: float, seed: int) -> Split:
    """Draw the validation studies; at least one study falls into each part.

    Raises:
        DataError: fewer than two studies.
    """
    if len(studies) < 2:
        raise DataError(f"{len(studies)} studies cannot be split; at least two are needed")
    ordered = sorted(studies)
    count = min(max(1, round(val_fraction * len(ordered))), len(ordered) - 1)
    drawn = np.random.default_rng(seed).permutation(len(ordered))[:count]
    chosen = {ordered[index] for index in drawn}
    return Split(
        train=tuple(study for study in ordered if study not in chosen), val=tuple(sorted(chosen))
    )
