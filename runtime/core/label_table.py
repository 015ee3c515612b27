"""A table of grades in train.csv's layout: one row per study, one column per place (25).

Ids are text. Export reads it to judge lower precisions; training, to train, calibrate and evaluate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import GRADE_TITLES, LOCATIONS
from rsna_lumbar.runtime.core.metric import NO_GRADE, IntArray

_GRADE_OF = {title: grade for grade, title in enumerate(GRADE_TITLES)}
_LABEL_TABLE = "the label table"  # train.csv, or a table in the same layout
_SHOWN = 3  # examples in an error message


def read_csv(path: Path) -> pd.DataFrame:
    """Read every cell as text, empty cells as ''. CRLF and a byte order mark are accepted.

    Raises:
        DataError: the file does not exist, or is not a CSV table.
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no CSV table ({error})") from error


def study_ids(wide: pd.DataFrame) -> pd.Series[str]:
    """The study ids of a table in train.csv's layout, as text, one per row.

    Raises:
        DataError: no column study_id, or a study appears twice.
    """
    require_columns(wide, ("study_id",), _LABEL_TABLE)
    ids = wide["study_id"].astype(str)
    _refuse(ids[ids.duplicated()], f"{_LABEL_TABLE} lists a study twice")
    return ids


def tidy_labels(wide: pd.DataFrame) -> pd.DataFrame:
    """train.csv's layout -> one row per graded place, sorted by study, then in table order.

    Args:
        wide: study_id and the 25 columns ``<condition>_<level>``; an empty or missing cell is
            a place without a grade. The table is not changed.

    Returns:
        study_id (text), condition, level, grade (index into GRADES).

    Raises:
        DataError: a column is missing, a study appears twice, or a cell contains another word.
    """
    ids = study_ids(wide)
    require_columns(wide, tuple("_".join(location) for location in LOCATIONS), _LABEL_TABLE)
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
    tidy["grade"] = translated(tidy["grade"], _GRADE_OF, f"{_LABEL_TABLE}: grade").astype("int64")
    return tidy.drop(columns="place")


def grade_table(labels: pd.DataFrame, studies: Sequence[str]) -> IntArray:
    """(studies, 25) grades, NO_GRADE if the label table has none; columns in order of LOCATIONS.

    ``labels`` is a table in train.csv's layout; the rows are those of ``studies``.
    """
    tidy = tidy_labels(labels)
    row = pd.Index(studies).get_indexer(pd.Index(tidy["study_id"]))
    places = {location: place for place, location in enumerate(LOCATIONS)}
    column = [places[found] for found in zip(tidy["condition"], tidy["level"], strict=True)]
    grades = np.full((len(studies), len(LOCATIONS)), NO_GRADE, np.int64)
    chosen = row >= 0
    grades[row[chosen], np.array(column, np.int64)[chosen]] = tidy["grade"].to_numpy()[chosen]
    return grades


def translated(
    column: pd.Series[str], words: Mapping[str, int] | Mapping[str, str], what: str
) -> pd.Series[str]:
    """Replace each word of a column by its translation.

    Raises:
        DataError: the column contains an unknown word.
    """
    stripped = column.str.strip()
    _refuse(stripped[~stripped.isin(list(words))], f"{what} is none that the challenge uses")
    return stripped.map(words)


def _refuse(wrong: pd.Series[str], what: str) -> None:
    if len(wrong):
        examples = ", ".join(map(repr, wrong.drop_duplicates().head(_SHOWN)))
        raise DataError(f"{what} ({len(wrong)}, such as {examples})")


def require_columns(table: pd.DataFrame, columns: tuple[str, ...], name: str) -> None:
    """Require these columns in a table; ``name`` is the table's name in the DataError."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"{name} lacks the column {missing[0]} ({len(missing)} missing in all)")
