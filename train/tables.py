"""The challenge's tables -> tidy frames. Ids are text; conditions and levels are spelled as in
:mod:`rsna_lumbar.runtime.labels`, whichever spelling the file uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.labels import (
    CONDITIONS,
    GRADE_TITLES,
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
_GRADE_OF = {title: grade for grade, title in enumerate(GRADE_TITLES)}
_LABEL_TABLE = "the label table"  # train.csv, or one like it under another name
_SHOWN = 3  # examples in an error message


@dataclass(frozen=True, eq=False, slots=True)
class Tables:
    """What the tables of a data set say."""

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
        DataError: a table or column is missing, or holds a word that the challenge does not use.
    """
    wide = read_csv(root / LABELS)
    return Tables(
        studies=tuple(sorted(study_ids(wide))),
        labels=tidy_labels(wide),
        points=_points(read_csv(root / POINTS)),
        series=_series(read_csv(root / SERIES)),
    )


def read_csv(path: Path) -> pd.DataFrame:
    """Every cell as text, empty ones as ''. CRLF line ends and a byte order mark do not matter.

    Raises:
        DataError: there is no such file, or it is no CSV table.
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no CSV table ({error})") from error


def study_ids(wide: pd.DataFrame) -> pd.Series[str]:
    """The studies of a table in train.csv's layout, as text, one a row.

    Raises:
        DataError: no column study_id, or a study that stands twice.
    """
    _require(wide, ("study_id",), _LABEL_TABLE)
    ids = wide["study_id"].astype(str)
    _refuse(ids[ids.duplicated()], f"{_LABEL_TABLE} lists a study twice")
    return ids


def tidy_labels(wide: pd.DataFrame) -> pd.DataFrame:
    """train.csv's layout -> one row per graded location, sorted by study, then in table order.

    Args:
        wide: study_id and the 25 columns ``<condition>_<level>``; an empty or missing cell is
            a location without a grade. It is not changed.

    Returns:
        study_id (text), condition, level, grade (index into GRADES).

    Raises:
        DataError: a column is missing, a study stands twice, or a cell holds another word.
    """
    ids = study_ids(wide)
    _require(wide, tuple("_".join(location) for location in LOCATIONS), _LABEL_TABLE)
    columns = [
        pd.DataFrame(
            {
                "study_id": ids,
                "condition": condition,
                "level": level,
                "grade": wide[f"{condition}_{level}"].fillna("").astype(str).str.strip(),
                "place": place,
            }
        )
        for place, (condition, level) in enumerate(LOCATIONS)
    ]
    tidy = pd.concat(columns, ignore_index=True)
    tidy = tidy[tidy["grade"] != ""].sort_values(["study_id", "place"], ignore_index=True)
    tidy["grade"] = _translated(tidy["grade"], _GRADE_OF, f"{_LABEL_TABLE}: grade").astype("int64")
    return tidy.drop(columns="place")


def _points(table: pd.DataFrame) -> pd.DataFrame:
    columns = ("study_id", "series_id", "instance_number", "condition", "level", "x", "y")
    _require(table, columns, POINTS)
    return table[list(columns)].assign(
        instance_number=_whole(_numbers(table["instance_number"])),
        condition=_translated(table["condition"], _CONDITION_OF, f"{POINTS}: condition"),
        level=_translated(table["level"], _LEVEL_OF, f"{POINTS}: level"),
        x=_numbers(table["x"]),
        y=_numbers(table["y"]),
    )


def _series(table: pd.DataFrame) -> pd.DataFrame:
    columns = {"study_id": "study_id", "series_id": "series_id", "series_description": "kind"}
    _require(table, tuple(columns), SERIES)
    tidy = table[list(columns)].rename(columns=columns)
    tidy["kind"] = tidy["kind"].str.strip()
    return tidy.drop_duplicates(["study_id", "series_id"], ignore_index=True)


def _whole(numbers: pd.Series[float]) -> pd.Series[int]:
    """What is no whole number becomes NA."""
    return numbers.where(numbers.abs().lt(2**53) & (numbers % 1 == 0)).astype("Int64")


def _numbers(column: pd.Series[str]) -> pd.Series[float]:
    """What is no number becomes NaN: its rows are left out, and counted, by name."""
    return pd.to_numeric(column, errors="coerce")


def _translated(
    column: pd.Series[str], words: Mapping[str, int] | Mapping[str, str], what: str
) -> pd.Series[str]:
    stripped = column.str.strip()
    _refuse(stripped[~stripped.isin(list(words))], f"{what} is none that the challenge uses")
    return stripped.map(words)


def _refuse(wrong: pd.Series[str], what: str) -> None:
    if len(wrong):
        examples = ", ".join(map(repr, wrong.drop_duplicates().head(_SHOWN)))
        raise DataError(f"{what} ({len(wrong)}, such as {examples})")


def _require(table: pd.DataFrame, columns: tuple[str, ...], name: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"{name} lacks the column {missing[0]} ({len(missing)} missing in all)")
