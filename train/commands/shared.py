"""Arguments and progress that several commands of ``rsna-train`` use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tqdm import tqdm

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
EXISTING_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
EXISTING_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
WORKERS = click.option(
    "--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes."
)


def progress_bar(title: str, total: int) -> tqdm[Any]:
    """A progress bar on standard error; none where that is no terminal."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, disable=None)
