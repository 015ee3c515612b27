"""Arguments and progress that several commands of ``rsna-train`` use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tqdm import tqdm

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
EXISTING_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
WORKERS = click.option(
    "--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes."
)


def fold_options(function: Decorated) -> Decorated:
    """Add ``--folds``, ``--fold`` and ``--seed``: which studies are for validation."""
    for option in (
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
                     help="Of the folds."),
        click.option("--fold", type=click.IntRange(0), default=0, show_default=True,
                     help="Which of them is for validation, from 0."),
        click.option("--folds", type=click.IntRange(2), default=5, show_default=True,
                     help="Parts that the studies are dealt out to, by severity."),
    ):  # fmt: skip
        function = option(function)
    return function


def progress_bar(title: str, total: int) -> tqdm[Any]:
    """A progress bar on standard error; none where that is no terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, disable=None)
