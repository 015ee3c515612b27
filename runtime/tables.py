"""CSV tables that say what to score: series with their kinds, and lists of studies."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.labels import GROUP_BY_KIND, Group

# (study id, series id) -> who reads it; None where it is listed as another kind.
SeriesTable = dict[tuple[str, str], Group | None]
TABLE_COLUMNS = ("study_id", "series_id", "series_description")


def read_series_table(path: Path) -> SeriesTable:
    """Who reads each series. Any kind but the three is nobody's.

    Raises:
        DataError: it is no such table, or a name is empty.
    """
    groups: SeriesTable = {}
    for line, row in _numbered_rows(path, TABLE_COLUMNS):
        study_id, series_id, kind = row.values()
        if not study_id or not series_id:
            raise DataError(f"{path} line {line} lacks a study_id or series_id")
        groups[study_id, series_id] = GROUP_BY_KIND.get(kind)
    return groups


def read_study_list(path: Path) -> tuple[str, ...]:
    """Study ids of a CSV table with a column ``study_id``, such as train.csv, each once, sorted.

    Raises:
        DataError: it is no such table, or names no study.
    """
    ids = tuple(sorted({row["study_id"] for row in read_rows(path, ("study_id",))} - {""}))
    if not ids:
        raise DataError(f"{path} names no study")
    return ids


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Columns of a CSV table as text, stripped.

    Raises:
        DataError: it is no such table, or lacks a column.
    """
    return [row for _, row in _numbered_rows(path, columns)]


def _numbered_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """With the number of the line that each ends in. Not by pandas, which takes 0.3 s to load."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if reader.fieldnames is None:
                raise ValueError("it is empty")
            missing = [name for name in columns if name not in reader.fieldnames]
            if missing:
                raise DataError(f"{path} lacks the column {missing[0]}; it needs {tuple(columns)}")
            return [
                (reader.line_num, {name: (row[name] or "").strip() for name in columns})
                for row in reader
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error})") from error
