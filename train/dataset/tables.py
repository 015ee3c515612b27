"""The challenge's tables -> tidy frames.

Ids are text. Conditions and levels become those of :mod:`rsna_lumbar.runtime.core.labels`, in
whichever spelling the file has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rsna_lumbar.runtime.core.label_table import (
    read_csv,
    require_columns,
    study_ids,
    tidy_labels,
    translated,
)
from rsna_lumbar.runtime.core.labels import (
    CONDITIONS,
    LEVELS,
    LOCATIONS,
    condition_title,
    level_title,
)

LABELS = "train.csv"
POINTS = "train_label_coordinates.csv"
SERIES = "train_series_descriptions.csv"

_CONDITION_OF = {name: c for c in CONDITIONS for name in (c, condition_title(c))}
_LEVEL_OF = {name: level for level in LEVELS for name in (level, level_title(level))}


@dataclass(frozen=True, eq=False, slots=True)
class Tables:
    """The tables of a data set."""

    studies: tuple[str, ...]  # every study of train.csv, sorted
    labels: pd.DataFrame  # study_id, condition, level, grade (index into GRADES); no empty cells
    points: pd.DataFrame  # study_id, series_id, instance_number, condition, level, x, y (pixels)
    series: pd.DataFrame  # study_id, series_id, kind

    @property
    def empty_labels(self) -> int:
        """Cells of train.csv without a grade."""
        return len(self.studies) * len(LOCATIONS) - len(self.labels)


def read_tables(root: Path) -> Tables:
    """Read the three tables of the train part.

    Raises:
        DataError: a table or column is missing, or contains a word that the challenge does not use.
    """
    wide = read_csv(root / LABELS)
    return Tables(
        studies=tuple(sorted(study_ids(wide))),
        labels=tidy_labels(wide),
        points=_points(read_csv(root / POINTS)),
        series=_series(read_csv(root / SERIES)),
    )


def _points(table: pd.DataFrame) -> pd.DataFrame:
    columns = ("study_id", "series_id", "instance_number", "condition", "level", "x", "y")
    require_columns(table, columns, POINTS)
    return table[list(columns)].assign(
        instance_number=_whole(_numbers(table["instance_number"])),
        condition=translated(table["condition"], _CONDITION_OF, f"{POINTS}: condition"),
        level=translated(table["level"], _LEVEL_OF, f"{POINTS}: level"),
        x=_numbers(table["x"]),
        y=_numbers(table["y"]),
    )


def _series(table: pd.DataFrame) -> pd.DataFrame:
    columns = {"study_id": "study_id", "series_id": "series_id", "series_description": "kind"}
    require_columns(table, tuple(columns), SERIES)
    tidy = table[list(columns)].rename(columns=columns)
    tidy["kind"] = tidy["kind"].str.strip()
    return tidy.drop_duplicates(["study_id", "series_id"], ignore_index=True)


def _whole(numbers: pd.Series[float]) -> pd.Series[int]:
    """Values that are not whole numbers become NA."""
    return numbers.where(numbers.abs().lt(2**53) & (numbers % 1 == 0)).astype("Int64")


def _numbers(column: pd.Series[str]) -> pd.Series[float]:
    """Other values become NaN; their rows are left out with a reason, and counted."""
    return pd.to_numeric(column, errors="coerce")
