"""The rows of a submission: every fault found first, then the answers in the order of the studies.

Rows pair up with studies by id, so their order in the file does not matter. A group is answered
whole or not at all: a submission of a bundle without a detector has no row of its group. All kinds
of bad rows are named in one error, each with how many there are and three of their ids.
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

# Six written digits are off by at most 3 * 5e-7; the score moves by no more than that.
SUM_TOLERANCE = 1e-5
_SHOWN = 3  # examples of each fault

# In the order in which they are reported: what one row, and what several, are said to be.
FAULTS = {
    "duplicate": ("stands more than once", "stand more than once"),
    "unknown": (
        "has an id that the label table does not know",
        "have an id that the label table does not know",
    ),
    "missing": ("is missing", "are missing"),
    "not_a_number": ("has a value that is no number", "have a value that is no number"),
    "infinite": ("has an infinite value", "have an infinite value"),
    "negative": ("has a negative value", "have a negative value"),
    "above_one": ("has a value above 1", "have a value above 1"),
    "sum": ("does not sum to 1", "do not sum to 1"),
}
_REMEDIES = {"missing": " (of a fold's submission, name its studies with --studies)"}


@dataclass(frozen=True, slots=True)
class BadRows:
    """The rows of a submission that have one fault."""

    fault: str  # a key of FAULTS
    count: int  # of ids for "duplicate" and "missing", of rows for the others
    examples: tuple[str, ...]  # the first ids, at most three

    def __str__(self) -> str:
        one, several = FAULTS[self.fault]
        rows = f"1 row of the submission {one}"
        if self.count > 1:
            rows = f"{self.count} rows of the submission {several}"
        return f"{rows}, such as {', '.join(self.examples)}{_REMEDIES.get(self.fault, '')}"


class SubmissionError(DataError):
    """A submission with bad rows; ``bad_rows`` holds one record for each kind of fault."""

    def __init__(self, bad_rows: Sequence[BadRows]) -> None:
        super().__init__("; ".join(map(str, bad_rows)))
        self.bad_rows = tuple(bad_rows)


@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """What a submission says of some studies."""

    # (studies, 25, 3) in the order of the studies, of LOCATIONS and of GRADES; float32 where all
    # three columns of the submission are, else float64; NaN for groups that are not answered
    probability: NDArray[np.floating[Any]]
    groups: tuple[Group, ...]  # that are answered
    ignored: int  # rows of other known studies


def read_answers(
    submission: pd.DataFrame, studies: Sequence[str], others: Collection[str] = ()
) -> Answers:
    """Check the rows of a submission and put them in order. The submission is not changed.

    Args:
        submission: row_id, normal_mild, moderate, severe, numbers or text, in any order of rows;
            of a group all rows of all ``studies``, or none. Further columns do not matter.
        studies: whose rows are wanted.
        others: known studies whose rows may be there, and are only counted.

    Raises:
        SubmissionError: no row of ``studies``; rows that stand more than once, are missing from a
            group that has others, or of an unknown id; values that are no number, infinite,
            negative or above 1 (by more than SUM_TOLERANCE, as rounding may write); rows that do
            not sum to 1 within SUM_TOLERANCE.
        DataError: a column is missing.
    """
    _require_columns(submission)
    ids = submission[SUBMISSION_COLUMNS[0]].astype(str)
    ignored = ids.isin(_row_ids(others)).to_numpy()
    values = _numbers(submission)[~ignored]
    names, wanted = pd.Index(ids[~ignored]), pd.Index(_row_ids(studies))
    place = (len(studies), len(LOCATIONS))
    found = wanted.isin(names).reshape(place)
    groups = _answered(found)
    missing = wanted[(_expected(groups) & ~found).ravel()]
    bad_rows = [*_bad_ids(names, wanted, missing), *_bad_values(names, values)]
    if bad_rows:
        raise SubmissionError(bad_rows)
    probability = np.full((*place, len(GRADES)), np.nan, values.dtype)
    probability[found] = values[names.get_indexer(wanted[found.ravel()])]
    return Answers(probability=probability, groups=groups, ignored=int(ignored.sum()))


def _answered(found: NDArray[np.bool_]) -> tuple[Group, ...]:
    """The groups that have a row, by the (studies, 25) that are there; all where there is none."""
    some = tuple(group for group in GROUPS if found[:, columns_of(group)].any())
    return some or GROUPS


def _expected(groups: Sequence[Group]) -> NDArray[np.bool_]:
    """(25,): the locations of some groups."""
    return np.isin(np.arange(len(LOCATIONS)), [c for group in groups for c in columns_of(group)])


def _require_columns(submission: pd.DataFrame) -> None:
    lacking = [column for column in SUBMISSION_COLUMNS if column not in submission.columns]
    if lacking:
        raise DataError(
            f"the submission lacks the column {', '.join(lacking)}; "
            f"it needs {','.join(SUBMISSION_COLUMNS)}"
        )


def _row_ids(studies: Collection[str]) -> list[str]:
    return [row_id(study, *location) for study in studies for location in LOCATIONS]


def _numbers(submission: pd.DataFrame) -> NDArray[np.floating[Any]]:
    """(rows, 3); what is no number becomes NaN."""
    columns = submission[list(GRADES)].apply(pd.to_numeric, errors="coerce")
    single = all(dtype == np.float32 for dtype in columns.dtypes)
    values: NDArray[np.floating[Any]] = columns.to_numpy(
        np.float32 if single else np.float64, na_value=np.nan
    )
    return values


def _bad_ids(names: pd.Index[str], wanted: pd.Index[str], missing: pd.Index[str]) -> list[BadRows]:
    return _present(
        {
            "duplicate": names[names.duplicated()].unique(),
            "unknown": names[~names.isin(wanted)],
            "missing": missing.sort_values(),
        }
    )


def _bad_values(names: pd.Index[str], values: NDArray[np.floating[Any]]) -> list[BadRows]:
    finite = np.isfinite(values)
    with np.errstate(over="ignore", invalid="ignore"):  # of what is refused anyway
        total = values.sum(axis=1, dtype=np.float64)
    at = {
        "not_a_number": np.isnan(values).any(axis=1),
        "infinite": np.isinf(values).any(axis=1),
        "negative": (finite & (values < 0)).any(axis=1),
        "above_one": (finite & (values > 1 + SUM_TOLERANCE)).any(axis=1),
        "sum": finite.all(axis=1) & (np.abs(total - 1) > SUM_TOLERANCE),
    }
    return _present({fault: names[rows] for fault, rows in at.items()})


def _present(ids_of: dict[str, Sequence[str] | pd.Index[str]]) -> list[BadRows]:
    """The faults that there are."""
    return [
        BadRows(fault, len(ids), tuple(map(str, ids[:_SHOWN])))
        for fault, ids in ids_of.items()
        if len(ids)
    ]
