"""``rsna-bench``: three parts, one command a module, imported when it is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

import click

from rsna_lumbar.runtime.system.entry_point import common_options, entry_point


@dataclass(frozen=True, slots=True)
class Part:
    """Where a command is, and the line that lists it, so that listing imports none."""

    module: str  # its click command is named ``cli``
    line: str


PARTS: Mapping[str, Part] = {
    "model": Part(
        "rsna_lumbar.benchmarks.commands.model",
        "Score graphs against PyTorch, ultralytics and the peak of this machine.",
    ),
    "pipeline": Part(
        "rsna_lumbar.benchmarks.commands.pipeline",
        "DICOM to submission against the method's own way, stage by stage.",
    ),
    "start": Part(
        "rsna_lumbar.benchmarks.commands.start",
        "How long --help, an import and one study take from cold.",
    ),
}
DEFAULT = "model"
OF_THE_GROUP = ("--help", "--version")
ANYWHERE = ("--debug",)


class Parts(click.Group):
    """A group whose commands are imported when chosen, and which chooses one where none is named.

    ``rsna-bench --sizes 384`` is ``rsna-bench model --sizes 384``.
    """

    def list_commands(self, _: click.Context) -> list[str]:
        return list(PARTS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        part = PARTS.get(name)
        if part is None:
            return None
        command: click.Command = import_module(part.module).cli
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, part.line) for name, part in PARTS.items()])

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        place = next((i for i, word in enumerate(words) if word not in ANYWHERE), len(words))
        first = words[place] if place < len(words) else ""
        if not first or (first.startswith("-") and first not in OF_THE_GROUP):
            words = [*words[:place], DEFAULT, *words[place:]]
        return super().parse_args(context, words)


@click.command(cls=Parts)
@common_options
def cli() -> None:
    """Time what this package does beside what one would run otherwise, in one run.

    With options but no command it is ``rsna-bench model``.
    """


main = entry_point(cli, "rsna-bench")
