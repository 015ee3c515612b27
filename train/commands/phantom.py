"""``rsna-train phantom``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import FOLDER, WORKERS, progress_bar

if TYPE_CHECKING:
    from tqdm import tqdm


@click.command()
@click.argument("out", type=FOLDER)
@click.option("--studies", type=click.IntRange(1), default=16, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--matrix-px", type=click.IntRange(32), default=256, show_default=True)
@click.option(
    "--frequencies",
    default="0.77,0.16,0.06",
    show_default=True,
    help="Shares of normal/mild, moderate and severe.",
)
@click.option(
    "--quirks",
    default="rescale-tags",
    show_default=True,
    help="Comma list of oddities of the real files, or all.",
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
    workers: int,
) -> None:
    """Draw synthetic studies in the challenge's layout into OUT."""
    from rsna_lumbar.train.phantom import QUIRKS, PhantomOptions, make_phantom

    try:
        shares = _three_numbers(frequencies)
        options = PhantomOptions(
            studies=studies,
            seed=seed,
            matrix_px=matrix_px,
            grade_frequencies=shares,
            quirks=frozenset(QUIRKS if quirks == "all" else filter(None, quirks.split(","))),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    with progress_bar("phantom", studies) as bar:
        make_phantom(out, options, workers=workers, progress=partial(_done, bar))


def _three_numbers(text: str) -> tuple[float, float, float]:
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        message = "--frequencies takes three numbers, such as 0.77,0.16,0.06"
        raise ValueError(message) from None
    return first, second, third


def _done(bar: tqdm[Any], count: int) -> None:
    bar.update(count)
