"""A submission beside the weighted class prior on the same rows, and what lies behind its score."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from rsna_lumbar.runtime.errors import DataError
from rsna_lumbar.runtime.label_table import read_csv, study_ids, tidy_labels
from rsna_lumbar.runtime.metric import MetricResult, score_answers
from rsna_lumbar.runtime.tables import read_study_list
from rsna_lumbar.train.diagnostics import Diagnostics, diagnose
from rsna_lumbar.train.metric import pair
from rsna_lumbar.train.prior import class_prior, prior_submission

_SHOWN = 3  # examples in an error message


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metric of a submission, and of the prior on the same rows."""

    submission: MetricResult
    prior: MetricResult
    prior_from: str  # whose labels the prior was counted on
    studies: int
    ignored: int  # rows of the submission, of studies that were not to be scored
    diagnostics: Diagnostics  # of the submission

    @property
    def ratio(self) -> float:
        """Score of the submission over that of the prior; below 1 something was learnt."""
        return self.submission.score / self.prior.score

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the score must know, a sentence each."""
        notes = []
        if self.submission.any_severe_spinal is None:
            notes.append(
                "No study has a severe spinal row: the any-severe term does not exist here, "
                "and the score is the mean of the other three."
            )
        if self.ignored:
            notes.append(
                f"{self.ignored} rows of the submission are of other studies of the label table "
                "and were left aside."
            )
        return tuple(notes)


def evaluate(
    submission: Path,
    labels: Path,
    prior_labels: Path | None = None,
    *,
    studies: Path | None = None,
) -> Evaluation:
    """Score a file and the prior.

    Args:
        submission: CSV with row_id and the three grades, 25 rows for each study to score.
        labels: table in train.csv's layout.
        prior_labels: such a table of other studies, to count the prior on. Without it the prior
            is counted on the studies that are scored, which flatters it.
        studies: CSV with study_id, such as ``val_studies.csv`` of ``rsna-train prepare``; only
            these are scored. Without it, all of ``labels``.

    Raises:
        DataError: as :func:`evaluate_tables`; a file that is no CSV table.
    """
    truth = read_csv(labels)
    result = evaluate_tables(
        read_csv(submission),
        truth,
        None if prior_labels is None else read_csv(prior_labels),
        studies=None if studies is None else read_study_list(studies),
    )
    return result if prior_labels is None else replace(result, prior_from=str(prior_labels))


def evaluate_tables(
    submission: pd.DataFrame,
    labels: pd.DataFrame,
    prior_labels: pd.DataFrame | None = None,
    *,
    studies: Collection[str] | None = None,
) -> Evaluation:
    """Score a table and the prior; no table is changed.

    Args:
        submission: row_id, normal_mild, moderate, severe, numbers or text; 25 rows for each study
            to score, in any order.
        labels: in train.csv's layout, empty cells allowed.
        prior_labels: as ``labels``, to count the prior on; else the studies that are scored.
        studies: which studies of ``labels`` to score, all without it. Rows of the others may be
            in the submission and are counted as ignored.

    Raises:
        SubmissionError: bad rows, all kinds of them named
            (:func:`rsna_lumbar.train.submission.read_answers`).
        DataError: a column is missing, a label table holds a word that the challenge does not use
            or a study twice, a group has no graded row, or ``labels`` lacks one of ``studies``.
    """
    truth = labels if studies is None else _restricted(labels, set(studies))
    answers = pair(submission, labels, studies)
    counted = tidy_labels(truth if prior_labels is None else prior_labels)
    return Evaluation(
        submission=score_answers(answers),
        prior=score_answers(pair(prior_submission(class_prior(counted), answers.studies), truth)),
        prior_from="the same studies" if prior_labels is None else "other labels",
        studies=len(answers.studies),
        ignored=answers.ignored,
        diagnostics=diagnose(answers),
    )


def _restricted(labels: pd.DataFrame, studies: set[str]) -> pd.DataFrame:
    known = study_ids(labels)
    strangers = sorted(studies.difference(known))
    if strangers:
        raise DataError(
            f"the label table lacks {len(strangers)} of the {len(studies)} studies to score, "
            f"such as {', '.join(strangers[:_SHOWN])}"
        )
    return labels[known.isin(studies)]
