"""``rsna-train evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import EXISTING_FILE, FOLDER, JSON


@click.command()
@click.argument("submission", type=EXISTING_FILE)
@click.option(
    "--labels",
    type=EXISTING_FILE,
    required=True,
    help="Table in train.csv's layout. SUBMISSION must have all of its studies, or see --studies.",
)
@click.option(
    "--studies",
    type=EXISTING_FILE,
    help="Score only these studies: CSV with study_id, such as val_studies.csv of prepare.",
)
@click.option(
    "--prior-labels",
    type=EXISTING_FILE,
    help="Table in train.csv's layout of the training studies, to count the prior on.",
)
@click.option(
    "--resamples",
    type=click.IntRange(0),
    default=1000,
    help="Number of resampled sets of studies for the 95 % intervals; 0: no intervals.",
)
@JSON
@click.option(
    "--figures",
    type=FOLDER,
    help="Draw reliability curves and confusion matrices as PNG files in this folder.",
)
@common_options
def evaluate(
    submission: Path,
    labels: Path,
    studies: Path | None,
    prior_labels: Path | None,
    resamples: int,
    as_json: bool,
    figures: Path | None,
) -> None:
    """Score SUBMISSION by the challenge's metric, beside the weighted class prior.

    A group without any row in SUBMISSION is not scored.
    """
    from rsna_lumbar.train.evaluation import evaluate as evaluation
    from rsna_lumbar.train.evaluation import report
    from rsna_lumbar.train.evaluation.figures import draw_figures
    from rsna_lumbar.train.evaluation.submission import SubmissionError

    try:
        result = evaluation.evaluate(
            submission, labels, prior_labels, studies=studies, resamples=resamples
        )
    except SubmissionError as error:
        for rows in error.bad_rows:
            click.echo(f"Error: {rows}", err=True)
        click.get_current_context().exit(1)
    if figures:
        paths = draw_figures(result.diagnostics, figures)
        click.echo(f"Drawn: {', '.join(map(str, paths))}", err=True)
    click.echo(report.as_json(result) if as_json else report.as_table(result))
