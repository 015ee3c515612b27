"""A submission beside the weighted class prior on the same studies."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rsna_lumbar.train.metric import MetricResult, score
from rsna_lumbar.train.prior import class_prior, prior_submission
from rsna_lumbar.train.tables import read_csv, study_ids, tidy_labels

_TERMS = ("spinal", "foraminal", "subarticular", "any_severe_spinal", "score")
_TITLES = ("Spinal", "Foraminal", "Subarticular", "Any severe spinal", "Score (mean)")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metric of a submission, and of the prior on the same rows."""

    submission: MetricResult
    prior: MetricResult
    prior_from: str  # whose labels the prior was counted on
    studies: int

    @property
    def ratio(self) -> float:
        """Score of the submission over that of the prior; below 1 something was learnt."""
        return self.submission.score / self.prior.score


def evaluate(submission: Path, labels: Path, prior_labels: Path | None = None) -> Evaluation:
    """Score a file and the prior.

    Args:
        submission: CSV with row_id and the three grades.
        labels: table in train.csv's layout of exactly the studies of the submission.
        prior_labels: such a table of other studies, to count the prior on. Without it the prior
            is counted on ``labels`` themselves, which flatters it.

    Raises:
        DataError: as :func:`rsna_lumbar.train.metric.score`.
    """
    truth = read_csv(labels)
    counted = tidy_labels(truth if prior_labels is None else read_csv(prior_labels))
    studies = sorted(study_ids(truth))
    return Evaluation(
        submission=score(read_csv(submission), truth),
        prior=score(prior_submission(class_prior(counted), studies), truth),
        prior_from="the same studies" if prior_labels is None else str(prior_labels),
        studies=len(studies),
    )


def as_table(evaluation: Evaluation) -> str:
    """The terms, one a line, for people."""
    lines = [f"{'':18} {'submission':>11} {'prior':>8} {'ratio':>7}"]
    for term, title in zip(_TERMS, _TITLES, strict=True):
        ours, theirs = getattr(evaluation.submission, term), getattr(evaluation.prior, term)
        lines.append(
            f"{title:18} {'-':>11} {'-':>8} {'-':>7}"
            if ours is None
            else f"{title:18} {ours:11.4f} {theirs:8.4f} {ours / theirs:7.3f}"
        )
    lines.append(f"{evaluation.studies} studies; weighted class prior of {evaluation.prior_from}.")
    if evaluation.submission.any_severe_spinal is None:
        lines.append(
            "No study has a severe spinal row: the any-severe term does not exist here, "
            "and the score is the mean of the other three."
        )
    return "\n".join(lines)


def as_json(evaluation: Evaluation) -> str:
    """The same for programs: the terms of the submission, ``prior`` beside them, ``ratio``."""
    fields = {
        **asdict(evaluation.submission),
        "prior": asdict(evaluation.prior),
        "prior_from": evaluation.prior_from,
        "ratio": evaluation.ratio,
        "studies": evaluation.studies,
    }
    return json.dumps(fields, indent=2, allow_nan=False)
