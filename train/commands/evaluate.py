"""``rsna-train evaluate``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import EXISTING_FILE, FOLDER

if TYPE_CHECKING:
    from rsna_lumbar.train.evaluation.diagnostics import Diagnostics


@click.command()
@click.argument("submission", type=EXISTING_FILE)
@click.option(
    "--labels",
    type=EXISTING_FILE,
    required=True,
    help="Table in train.csv's layout; the submission is of all its studies, or see --studies.",
)
@click.option(
    "--studies",
    type=EXISTING_FILE,
    help="CSV with study_id, such as val_studies.csv of prepare: score these studies only.",
)
@click.option(
    "--prior-labels",
    type=EXISTING_FILE,
    help="Such a table of the training studies, to count the prior on.",
)
@click.option(
    "--resamples",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="How often to draw the studies again for the 95 % intervals; 0: no intervals.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object instead of a table.")
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

    A group of which it has no row, as of a bundle without such a detector, is left out.
    """
    from rsna_lumbar.train.evaluation import evaluate as evaluation
    from rsna_lumbar.train.evaluation import report
    from rsna_lumbar.train.evaluation.submission import SubmissionError

    try:
        result = evaluation.evaluate(
            submission, labels, prior_labels, studies=studies, resamples=resamples
        )
    except SubmissionError as error:
        _refuse(error.bad_rows)
    if figures:
        _draw(result.diagnostics, figures)
    text = report.as_json if as_json else report.as_table
    click.echo(text(result))


def _refuse(bad_rows: Iterable[object]) -> NoReturn:
    """One line for each kind of fault, and exit code 1."""
    for rows in bad_rows:
        click.echo(f"Error: {rows}", err=True)
    click.get_current_context().exit(1)


def _draw(diagnostics: Diagnostics, folder: Path) -> None:
    from rsna_lumbar.train.evaluation.figures import draw_figures

    paths = draw_figures(diagnostics, folder)
    click.echo(f"Drawn: {', '.join(map(str, paths))}", err=True)
