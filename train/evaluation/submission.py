"""The rows of a submission: all faults are found first; then the answers, in the studies' order.

Rows belong to studies by id, so their order in the file does not matter. A group is answered
completely or not at all: a submission of a bundle without a detector has no row of its group. One
error names all kinds of bad rows, each with its count and three ids.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import (
    GRADES,
    GROUPS,
    LOCATIONS,
    SUBMISSION_COLUMNS,
    Group,
    row_id,
)
from rsna_lumbar.runtime.core.metric import columns_of

# Numbers written with six digits are off by at most 5e-7 each, so a row's sum by 3 * 5e-7.
SUM_TOLERANCE = 1e-5
_SHOWN = 3  # examples of each fault

# In the order in which they are reported.
FAULTS = {
    "duplicate": "has rows more than once",
    "unknown": "has rows whose id is not in the label table",
    "missing": "lacks rows (to score a fold, name its studies with --studies)",
    "not_a_number": "has rows with a value that is not a number",
    "infinite": "has rows with an infinite value",
    "negative": "has rows with a negative value",
    "above_one": "has rows with a value above 1",
    "sum": "has rows that do not sum to 1",
}


@dataclass(frozen=True, slots=True)
class BadRows:
    """The rows of a submission that have one fault."""

    fault: str  # a key of FAULTS
    count: int  # of ids for "duplicate" and "missing", of rows for the others
    examples: tuple[str, ...]  # the first ids, at most three

    def __str__(self) -> str:
        examples = ", ".join(self.examples)
        return f"the submission {FAULTS[self.fault]}: {self.count}, such as {examples}"


class SubmissionError(DataError):
    """A submission with bad rows; ``bad_rows`` has one record per kind of fault."""

    def __init__(self, bad_rows: Sequence[BadRows]) -> None:
        super().__init__("; ".join(map(str, bad_rows)))
        self.bad_rows = tuple(bad_rows)


@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """The answers of a submission for some studies."""

    # (studies, 25, 3) in the order of the studies, of LOCATIONS and of GRADES; float32 if all three
    # columns of the submission are, else float64; NaN for groups that are not answered
    probability: NDArray[np.floating[Any]]
    groups: tuple[Group, ...]  # that are answered
    ignored: int  # rows of other known studies


def read_answers(
    submission: pd.DataFrame, studies: Sequence[str], others: Collection[str] = ()
) -> Answers:
    """Check the rows of a submission and put them in order. The submission is not changed.

    Args:
        submission: row_id, normal_mild, moderate, severe, numbers or text, in any order of rows;
            for each group all rows of all ``studies``, or none. Other columns are ignored.
        studies: the studies whose rows are wanted.
        others: known studies whose rows are allowed, and only counted.

    Raises:
        SubmissionError: no row of ``studies``; rows that appear more than once, have an unknown id
            or are missing from a group that has others; values that are not a number, infinite,
            negative or above 1 (by more than SUM_TOLERANCE, which covers rounding); rows that do
            not sum to 1 within SUM_TOLERANCE.
        DataError: a column is missing.
    """
    lacking = [column for column in SUBMISSION_COLUMNS if column not in submission.columns]
    if lacking:
        raise DataError(
            f"the submission lacks the column {', '.join(lacking)}; "
            f"it needs {','.join(SUBMISSION_COLUMNS)}"
        )
    ids = submission[SUBMISSION_COLUMNS[0]].astype(str)
    ignored = ids.isin(_row_ids(others)).to_numpy()
    values = _numbers(submission)[~ignored]
    names, wanted = pd.Index(ids[~ignored]), pd.Index(_row_ids(studies))
    place = (len(studies), len(LOCATIONS))
    found = wanted.isin(names).reshape(place)
    groups = tuple(group for group in GROUPS if found[:, columns_of(group)].any()) or GROUPS
    columns = [column for group in groups for column in columns_of(group)]
    missing = wanted[(np.isin(np.arange(len(LOCATIONS)), columns) & ~found).ravel()]
    bad_ids = {
        "duplicate": names[names.duplicated()].unique(),
        "unknown": names[~names.isin(wanted)],
        "missing": missing.sort_values(),
    }
    bad_rows = [
        BadRows(fault, len(bad), tuple(map(str, bad[:_SHOWN])))
        for fault, bad in {**bad_ids, **_bad_values(names, values)}.items()
        if len(bad)
    ]
    if bad_rows:
        raise SubmissionError(bad_rows)
    probability = np.full((*place, len(GRADES)), np.nan, values.dtype)
    probability[found] = values[names.get_indexer(wanted[found.ravel()])]
    return Answers(probability=probability, groups=groups, ignored=int(ignored.sum()))


def _row_ids(studies: Collection[str]) -> list[str]:
    return [row_id(study, *location) for study in studies for location in LOCATIONS]


def _numbers(submission: pd.DataFrame) -> NDArray[np.floating[Any]]:
    """(rows, 3); values that are not numbers become NaN."""
    columns = submission[list(GRADES)].apply(pd.to_numeric, errors="coerce")
    single = all(dtype == np.float32 for dtype in columns.dtypes)
    values: NDArray[np.floating[Any]] = columns.to_numpy(
        np.float32 if single else np.float64, na_value=np.nan
    )
    return values


def _bad_values(
    names: pd.Index[str], values: NDArray[np.floating[Any]]
) -> dict[str, pd.Index[str]]:
    """Fault -> ids of its rows."""
    finite = np.isfinite(values)
    with np.errstate(over="ignore", invalid="ignore"):  # such rows are refused anyway
        total = values.sum(axis=1, dtype=np.float64)
    faulty = {
        "not_a_number": np.isnan(values).any(axis=1),
        "infinite": np.isinf(values).any(axis=1),
        "negative": (finite & (values < 0)).any(axis=1),
        "above_one": (finite & (values > 1 + SUM_TOLERANCE)).any(axis=1),
        "sum": finite.all(axis=1) & (np.abs(total - 1) > SUM_TOLERANCE),
    }
    return {fault: names[rows] for fault, rows in faulty.items()}
