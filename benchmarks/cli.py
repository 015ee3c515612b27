"""``rsna-bench``: one command a module; bodies import what they need when they run."""

from __future__ import annotations

import click

from rsna_lumbar.benchmarks.commands import model, pipeline, start
from rsna_lumbar.runtime.system.entry_point import common_options, entry_point


class DefaultGroup(click.Group):
    """``rsna-bench --sizes 384`` is ``rsna-bench model --sizes 384``."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        place = next((i for i, word in enumerate(words) if word != "--debug"), len(words))
        first = "".join(words[place : place + 1])
        if not first or (first.startswith("-") and first not in ("--help", "--version")):
            words = [*words[:place], "model", *words[place:]]
        return super().parse_args(context, words)


@click.group(cls=DefaultGroup)
@common_options
def cli() -> None:
    """Time what this package does against the alternatives, in the same run.

    Without a command, rsna-bench model runs.
    """


for command in (model.cli, pipeline.cli, start.cli):
    cli.add_command(command)

main = entry_point(cli, "rsna-bench")
