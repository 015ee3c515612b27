"""Arguments, options and progress shared by the commands of ``rsna-train``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import click

T = TypeVar("T")

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
EXISTING_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
EXISTING_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
SEED = click.option("--seed", type=click.IntRange(0), default=0, help="Random seed.")
WORKERS = click.option(
    "--workers", type=click.IntRange(1), default=2, help="Number of worker processes."
)
FOLDS = click.option(
    "--folds",
    type=click.IntRange(2),
    default=5,
    help="Number of folds; studies are dealt to them by severity.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


def tracked(items: Iterable[T], title: str, total: int) -> Iterable[T]:
    """Show a progress bar on standard error if it is a terminal."""
    from tqdm import tqdm

    return tqdm(items, desc=title, total=total, disable=None)
