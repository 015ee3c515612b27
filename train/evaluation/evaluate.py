"""A submission beside the weighted class prior on the same rows, with diagnostics."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.label_table import read_csv, study_ids, tidy_labels
from rsna_lumbar.runtime.core.labels import GROUPS, SPINAL, Group
from rsna_lumbar.runtime.core.metric import MetricResult, graded_groups, score_answers, study_sums
from rsna_lumbar.runtime.studies.tables import read_study_list
from rsna_lumbar.train.dataset.prior import class_prior, prior_submission
from rsna_lumbar.train.evaluation.bootstrap import ENOUGH, RESAMPLES, Intervals, intervals
from rsna_lumbar.train.evaluation.diagnostics import Diagnostics, diagnose
from rsna_lumbar.train.evaluation.metric import pair
from rsna_lumbar.train.evaluation.severe import SevereReport, severe_reports

_SHOWN = 3  # examples in an error message
# The score without the any-severe term, by the number of groups.
_OTHERS = {1: "the spinal term", 2: "the mean of the other two", 3: "the mean of the other three"}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metric of a submission, and of the prior on the same rows; of the scored groups."""

    submission: MetricResult
    prior: MetricResult
    intervals: Intervals | None  # None if not requested
    prior_from: str  # the studies whose labels the prior was counted on, in words
    studies: int
    ignored: int  # rows of the submission that belong to studies not to be scored
    unanswered: tuple[Group, ...]  # not scored: the submission has no row of them
    ungraded: tuple[Group, ...]  # not scored: the label table has no grade of them
    diagnostics: Diagnostics  # of the submission
    severe: dict[str, dict[str, SevereReport]]  # of the submission, from severe_reports

    @property
    def groups(self) -> tuple[Group, ...]:
        """The scored groups."""
        return tuple(g for g in GROUPS if g not in (*self.unanswered, *self.ungraded))

    @property
    def ratio(self) -> float:
        """Score of the submission over that of the prior; below 1 the submission is better."""
        return self.submission.score / self.prior.score

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the score must know, a sentence each."""
        return tuple(_notes(self))


def evaluate(
    submission: Path,
    labels: Path,
    prior_labels: Path | None = None,
    *,
    studies: Path | None = None,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Score a file and the prior: :func:`evaluate_tables` with CSV files.

    ``studies`` is a CSV with study_id, such as ``val_studies.csv`` of ``rsna-train prepare``.

    Raises:
        DataError: as :func:`evaluate_tables`; a file that is not a CSV table.
    """
    result = evaluate_tables(
        read_csv(submission),
        read_csv(labels),
        None if prior_labels is None else read_csv(prior_labels),
        studies=None if studies is None else read_study_list(studies),
        resamples=resamples,
    )
    return result if prior_labels is None else replace(result, prior_from=str(prior_labels))


def evaluate_tables(
    submission: pd.DataFrame,
    labels: pd.DataFrame,
    prior_labels: pd.DataFrame | None = None,
    *,
    studies: Collection[str] | None = None,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Score a table and the prior; no table is changed.

    Groups without a row in the submission or without a grade in the label table are not scored.

    Args:
        submission: row_id, normal_mild, moderate, severe, numbers or text; for each study to
            score all rows of each group that it answers, in any order.
        labels: in train.csv's layout, empty cells allowed.
        prior_labels: as ``labels``, of other studies, to count the prior on. None: it is counted
            on the scored studies, which makes it look better.
        studies: the studies of ``labels`` to score; None: all. Rows of the others may be in the
            submission and are counted as ignored.
        resamples: for the 95 % intervals (``bootstrap.py``); 0 for none.

    Raises:
        SubmissionError: bad rows; it names all kinds of them
            (:func:`rsna_lumbar.train.evaluation.submission.read_answers`).
        DataError: a column is missing, a label table contains a word that the challenge does not
            use or a study twice, no group of the submission has a graded row, or ``labels`` lacks
            one of ``studies``.
    """
    truth = labels if studies is None else _restricted(labels, set(studies))
    paired = pair(submission, labels, studies)
    # If none is left, score_answers raises the error.
    answers = replace(paired, groups=graded_groups(paired) or paired.groups)
    score = score_answers(answers)
    counted = tidy_labels(truth if prior_labels is None else prior_labels)
    constant = pair(prior_submission(class_prior(counted), answers.studies), truth)
    prior = replace(constant, groups=answers.groups)
    return Evaluation(
        submission=score,
        prior=score_answers(prior),
        intervals=intervals(study_sums(answers), study_sums(prior), resamples),
        prior_from="the same studies" if prior_labels is None else "other labels",
        studies=len(answers.studies),
        ignored=answers.ignored,
        unanswered=tuple(group for group in GROUPS if group not in paired.groups),
        ungraded=tuple(group for group in paired.groups if group not in answers.groups),
        diagnostics=diagnose(answers),
        severe=severe_reports(answers),
    )


def _notes(found: Evaluation) -> Iterator[str]:
    for without, groups in {
        "row in the submission": found.unanswered,
        "grade in the label table": found.ungraded,
    }.items():
        if groups:
            yield f"Left out, without a {without}: {', '.join(g.name for g in groups)}."
    if len(found.groups) < len(GROUPS):
        yield "The score is the mean of the terms that are left; it is no score of the challenge's."
    if SPINAL in found.groups and found.submission.any_severe_spinal is None:
        yield (
            "No study has a severe spinal row: the any-severe term does not exist here, "
            f"and the score is {_OTHERS[len(found.groups)]}."
        )
    if found.intervals:
        yield from _on_intervals(found.intervals, found.studies)
    if found.ignored:
        yield (
            f"{found.ignored} rows of the submission are of other studies of the label table "
            "and were left aside."
        )


def _on_intervals(found: Intervals, studies: int) -> Iterator[str]:
    if studies < 2:
        yield "A single study has no interval: there are no others to draw."
        return
    if studies < ENOUGH:
        yield f"With fewer than {ENOUGH} studies the intervals are too narrow."
    missing = {name: count for name, count in found.missing.items() if count}
    if missing:
        counts = ", ".join(f"{name.replace('_', ' ')} in {n}" for name, n in missing.items())
        yield (
            f"Missing in some of the {found.resamples} resamples: {counts}. Their "
            "intervals, also of the ratio, are of the other resamples."
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
