"""CSV tables that say what to score: tables of series with their kinds, and lists of studies."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rsna_lumbar.runtime.core.csv_cells import as_named
from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import GROUP_BY_KIND, Group, study_of_row

# (study id, series id) -> the group that reads it; None if another kind is listed.
SeriesTable = dict[tuple[str, str], Group | None]
DELIMITERS = ",;\t"  # spreadsheets write ";" where "," is the decimal separator
TABLE_COLUMNS = ("study_id", "series_id", "series_description")


class _MissingColumn(DataError):
    """A table lacks a column."""


def read_series_table(path: Path) -> SeriesTable:
    """Read the group of each series; None for any kind except the three.

    Raises:
        DataError: it is not such a table, a name is empty, or two rows contradict each other.
    """
    groups: SeriesTable = {}
    lines: dict[tuple[str, str], int] = {}
    for line, row in _numbered_rows(path, TABLE_COLUMNS):
        study_id, series_id, kind = row.values()
        if not study_id or not series_id:
            raise DataError(f"{path} line {line} lacks a study_id or series_id")
        key, group = (as_named(study_id), as_named(series_id)), GROUP_BY_KIND.get(kind)
        before = lines.setdefault(key, line)
        if groups.setdefault(key, group) is not group:
            raise DataError(
                f"{path} line {line} lists the series of line {before} as another kind; keep one"
            )
    return groups


def read_study_list(path: Path) -> tuple[str, ...]:
    """Read the study ids of a CSV table, without duplicates, sorted.

    Args:
        path: a table with a column ``study_id``, such as train.csv, or ``row_id``, such as
            sample_submission.csv.

    Raises:
        DataError: it is not such a table, or names no study.
    """
    try:
        cells = [row["study_id"] for _, row in _numbered_rows(path, ("study_id",))]
    except _MissingColumn as error:
        try:
            cells = _studies_of_rows(path)
        except _MissingColumn:
            raise error from None
    ids = tuple(sorted(set(map(as_named, cells)) - {""}))
    if not ids:
        raise DataError(f"{path} names no study")
    return ids


def _studies_of_rows(path: Path) -> list[str]:
    cells = []
    for line, row in _numbered_rows(path, ("row_id",)):
        study_id = study_of_row(row["row_id"])
        if row["row_id"] and not study_id:
            raise DataError(f"{path} line {line}: {row['row_id']!r} names no row of the challenge")
        cells.append(study_id)
    return cells


def _numbered_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Columns of each row, stripped, with the number of the line that it ends in.

    No pandas: it takes 0.3 s to import.

    Raises:
        DataError: it is not such a table, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
        delimiter = next((one for one in DELIMITERS if _fits(text, one, columns)), DELIMITERS[0])
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        if reader.fieldnames is None:
            raise ValueError("it is empty")
        reader.fieldnames = [name.strip() for name in reader.fieldnames]
        missing = [name for name in columns if name not in reader.fieldnames]
        if missing:
            raise _MissingColumn(f"{path} lacks the column {missing[0]}; it needs {tuple(columns)}")
        return [
            (reader.line_num, {name: (row[name] or "").strip() for name in columns})
            for row in reader
        ]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error})") from error


def _fits(text: str, delimiter: str, columns: Sequence[str]) -> bool:
    """Whether a header with this delimiter has all columns."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        return set(columns) <= {name.strip() for name in next(reader, [])}
    except csv.Error:
        return False
