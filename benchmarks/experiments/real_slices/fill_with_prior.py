#!/usr/bin/env python3
"""Merges submissions of one detector each; missing rows get the weighted prior.

    python benchmarks/experiments/real_slices/fill_with_prior.py LABELS OUT SUBMISSION...

For published out-of-fold predictions, which lack the rows of a few studies.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from rsna_lumbar.runtime.core.label_table import read_csv, study_ids, tidy_labels
from rsna_lumbar.runtime.core.labels import SUBMISSION_COLUMNS
from rsna_lumbar.train.dataset.prior import class_prior, prior_submission

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
ROW = SUBMISSION_COLUMNS[0]


@click.command()
@click.argument("labels", type=FILE)
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("submissions", nargs=-1, required=True, type=FILE)
def cli(labels: Path, out: Path, submissions: tuple[Path, ...]) -> None:
    """Write OUT: 25 rows for each study of LABELS."""
    truth = read_csv(labels)
    prior = prior_submission(class_prior(tidy_labels(truth)), sorted(study_ids(truth)))
    given = pd.concat([read_csv(one)[list(SUBMISSION_COLUMNS)] for one in submissions])
    if given[ROW].duplicated().any():
        raise click.ClickException("a row stands in two of the submissions")
    given = given.set_index(ROW)
    filled = given.reindex(prior[ROW]).reset_index()
    missing = filled.isna().any(axis=1)
    filled = filled.where(~missing, prior)
    filled.to_csv(out, index=False)
    click.echo(f"{out}: {len(filled)} rows, {missing.sum()} of them from the prior")


if __name__ == "__main__":
    cli()
