"""``rsna-train``: one module per command; each imports what it needs when it runs."""

from __future__ import annotations

import click

from rsna_lumbar.runtime.system.entry_point import common_options, entry_point
from rsna_lumbar.train.commands.calibrate import calibrate
from rsna_lumbar.train.commands.evaluate import evaluate
from rsna_lumbar.train.commands.fit import fit
from rsna_lumbar.train.commands.phantom import phantom
from rsna_lumbar.train.commands.prepare import prepare


@click.group(context_settings={"show_default": True})
@common_options
def cli() -> None:
    """Train the three detectors and evaluate them."""


for command in (phantom, prepare, fit, calibrate, evaluate):
    cli.add_command(command)

main = entry_point(cli, "rsna-train")
