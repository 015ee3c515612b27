"""Which studies are for training and which for validation; the same for all groups.

The studies are sorted by severity and dealt to the folds like cards: in blocks of one study per
fold, each block in a random order. So the folds differ in size by at most one study, and hardly in
the number of severe studies of any group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, MODERATE, SEVERE
from rsna_lumbar.train.dataset.tables import Tables

PARTS = ("train", "val")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """One fold of several is for validation, the others are for training."""

    folds: int = 5
    fold: int = 0  # counted from 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UsageError(f"{self.folds} folds are too few: at least 2 are needed")
        if not 0 <= self.fold < self.folds:
            raise UsageError(f"no fold {self.fold} of {self.folds}: choose 0 to {self.folds - 1}")


@dataclass(frozen=True, slots=True)
class Split:
    """Studies by part, each sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]

    @property
    def part_of(self) -> dict[str, str]:
        return dict.fromkeys(self.train, "train") | dict.fromkeys(self.val, "val")


def split_studies(tables: Tables, folds: Folds) -> Split:
    """Choose the validation studies of one fold. The folds of one seed share no study.

    Raises:
        DataError: fewer studies than folds.
    """
    if len(tables.studies) < folds.folds:
        raise DataError(
            f"{len(tables.studies)} studies cannot be split into {folds.folds} folds; "
            "choose fewer with --folds"
        )
    rng = np.random.default_rng(folds.seed)
    ordered = _by_severity(tables, rng)
    dealt = deal(len(ordered), folds.folds, rng)
    chosen = {study for study, fold in zip(ordered, dealt, strict=True) if fold == folds.fold}
    return Split(
        train=tuple(study for study in tables.studies if study not in chosen),
        val=tuple(sorted(chosen)),
    )


def deal(count: int, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(count,) the fold of each study, if the studies are dealt in their order."""
    blocks = [rng.permutation(folds) for _ in range(0, count, folds)]
    return np.concatenate([np.empty(0, np.int64), *blocks])[:count]


def _by_severity(tables: Tables, rng: np.random.Generator) -> list[str]:
    """Most severe first: by whether each group has a severe label, then by their number."""
    labels = tables.labels
    severe = [
        _counted(labels[labels["condition"].isin(group.conditions)], SEVERE, tables.studies)
        for group in GROUPS
    ]
    frame = pd.DataFrame(
        {
            **{f"any_{index}": counts > 0 for index, counts in enumerate(severe)},
            "severe": sum(severe),
            "moderate": _counted(labels, MODERATE, tables.studies),
            "chance": rng.permutation(len(tables.studies)),
        },
        index=pd.Index(tables.studies),
    )
    return list(frame.sort_values(list(frame.columns), ascending=False).index)


def _counted(labels: pd.DataFrame, grade: int, studies: tuple[str, ...]) -> pd.Series[int]:
    counts = labels.loc[labels["grade"] == grade, "study_id"].value_counts()
    return counts.reindex(list(studies), fill_value=0)
