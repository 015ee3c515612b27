"""The detectors that ship, on studies that neither they nor anybody else has seen."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rsna_lumbar.runtime import Scorer, find_studies, submission_rows
from rsna_lumbar.runtime.demo import demo_bundle
from rsna_lumbar.runtime.labels import SUBMISSION_COLUMNS
from rsna_lumbar.train.evaluate import evaluate
from rsna_lumbar.train.phantom import PhantomOptions, make_phantom

# A fresh seed, and the challenge's grade frequencies, which are the phantom's default.
HELD_OUT = PhantomOptions(studies=20, seed=987_654, matrix_px=160)


def test_the_score_is_at_most_half_of_the_class_priors(tmp_path: Path) -> None:
    """About 0.26 against 0.9; with 20 studies neither moves by more than a few hundredths."""
    make_phantom(tmp_path / "data", HELD_OUT, workers=2)
    with Scorer(demo_bundle(), device="cpu") as scorer:
        scores = scorer.score(find_studies(tmp_path / "data"))
        rows = [row for study in scores for row in submission_rows(study)]
    submission = tmp_path / "submission.csv"
    pd.DataFrame(rows, columns=list(SUBMISSION_COLUMNS)).to_csv(submission, index=False)
    result = evaluate(submission, tmp_path / "data" / "train.csv", None)
    assert result.submission.score <= result.prior.score / 2
    assert 0.5 < result.prior.score < 1.2
