"""``rsna-train evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from rsna_lumbar.runtime.command_line import common_options
from rsna_lumbar.train.commands.shared import EXISTING_FILE


@click.command()
@click.argument("submission", type=EXISTING_FILE)
@click.option(
    "--labels",
    type=EXISTING_FILE,
    required=True,
    help="Table in train.csv's layout of exactly the studies of the submission.",
)
@click.option(
    "--prior-labels",
    type=EXISTING_FILE,
    help="Such a table of the training studies, to count the prior on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object instead of a table.")
@common_options
def evaluate(submission: Path, labels: Path, prior_labels: Path | None, as_json: bool) -> None:
    """Score SUBMISSION by the challenge's metric, beside the weighted class prior."""
    from rsna_lumbar.train import evaluate as evaluation

    result = evaluation.evaluate(submission, labels, prior_labels)
    click.echo(evaluation.as_json(result) if as_json else evaluation.as_table(result))
