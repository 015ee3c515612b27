"""``rsna-train phantom``."""

from __future__ import annotations

from pathlib import Path

import click

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import FOLDER, SEED, WORKERS


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--studies", type=click.IntRange(1), default=16)
@SEED
@click.option("--matrix-px", type=click.IntRange(32), default=256, help="Rows and columns.")
@click.option(
    "--frequencies",
    default="0.77,0.16,0.06",
    help="Shares of the grades normal/mild, moderate and severe.",
)
@click.option(
    "--quirks",
    default="rescale-tags",
    help="Oddities of real files, separated by commas; all: every one.",
)
@click.option(
    "--cues",
    type=click.Choice(["all", "none"]),
    default="all",
    help="none: nothing beside the spine tells sides and levels, and stacks lie as in real ones: "
    "shifted, oblique, angled to each disc, reversed, or without L1/L2.",
)
@WORKERS
@common_options
def phantom(
    out: Path,
    studies: int,
    seed: int,
    matrix_px: int,
    frequencies: str,
    quirks: str,
    cues: str,
    workers: int,
) -> None:
    """Draw synthetic studies in the challenge's layout into OUT."""
    from tqdm import tqdm

    from rsna_lumbar.train.phantom import QUIRKS, PhantomOptions, make_phantom

    try:
        options = PhantomOptions(
            studies=studies,
            seed=seed,
            matrix_px=matrix_px,
            grade_frequencies=_three_numbers(frequencies),
            quirks=frozenset(QUIRKS if quirks == "all" else filter(None, quirks.split(","))),
            cues=cues == "all",
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    with tqdm(total=studies, desc="phantom", disable=None) as bar:
        make_phantom(out, options, workers=workers, progress=bar.update)


def _three_numbers(text: str) -> tuple[float, float, float]:
    try:
        first, second, third = map(float, text.split(","))
    except ValueError:
        raise ValueError("--frequencies takes three numbers, such as 0.77,0.16,0.06") from None
    return first, second, third
