"""The challenge's CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from rsna_lumbar.runtime.core.labels import (
    LOCATIONS,
    ROW_LOCATIONS,
    SUBMISSION_COLUMNS,
    condition_title,
    level_title,
    row_id,
)
from rsna_lumbar.train.phantom.study import StudyRecord

_COORDINATE_COLUMNS = ("study_id", "series_id", "instance_number", "condition", "level", "x", "y")
_SERIES_COLUMNS = ("study_id", "series_id", "series_description")
_UNIFORM = repr(1 / 3)


def write_train_tables(out: Path, records: Sequence[StudyRecord]) -> None:
    """``train.csv`` and ``train_label_coordinates.csv``."""
    header = ("study_id", *("_".join(location) for location in LOCATIONS))
    _write(out / "train.csv", header, ((record.study_id, *record.labels) for record in records))
    points = (
        (record.study_id, point.series_id, point.instance, condition_title(point.condition),
         level_title(point.level), round(point.x, 6), round(point.y, 6))
        for record in records
        for point in record.points
    )  # fmt: skip
    _write(out / "train_label_coordinates.csv", _COORDINATE_COLUMNS, points)


def write_series_table(path: Path, records: Sequence[StudyRecord], line_end: str) -> None:
    """``<part>_series_descriptions.csv``."""
    rows = ((record.study_id, *series) for record in records for series in record.series)
    _write(path, _SERIES_COLUMNS, rows, line_end)


def write_submission(path: Path, records: Sequence[StudyRecord]) -> None:
    """Uniform rows of all locations, sorted by row id as text."""
    names = sorted(
        row_id(str(record.study_id), *location) for record in records for location in ROW_LOCATIONS
    )
    _write(path, SUBMISSION_COLUMNS, ((name, *[_UNIFORM] * 3) for name in names))


def _write(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], line_end: str = "\n"
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator=line_end)
        writer.writerow(header)
        writer.writerows(rows)
