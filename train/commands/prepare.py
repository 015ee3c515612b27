"""``rsna-train prepare``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import click

from rsna_lumbar.runtime.command_line import common_options
from rsna_lumbar.runtime.errors import UsageError
from rsna_lumbar.train.commands.shared import EXISTING_FOLDER, FOLDER, WORKERS

T = TypeVar("T")


@click.command()
@click.argument("root", type=EXISTING_FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--image-size", type=click.IntRange(32), default=384, show_default=True)
@click.option(
    "--least-box-px",
    type=click.FloatRange(0),
    default=16.0,
    show_default=True,
    help="Smallest side of a box in the square.",
)
@click.option(
    "--window",
    type=(click.FloatRange(0, 100), click.FloatRange(0, 100)),
    default=(0.5, 99.5),
    show_default=True,
    help="Percentiles of a slice that become black and white.",
)
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.15,
    show_default=True,
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split.")
@WORKERS
@common_options
def prepare(
    root: Path,
    out: Path,
    image_size: int,
    least_box_px: float,
    window: tuple[float, float],
    val_fraction: float,
    seed: int,
    workers: int,
) -> None:
    """Turn the tables and DICOM files of ROOT into three YOLO data sets in OUT."""
    from rsna_lumbar.runtime.preprocess import Preprocessing
    from rsna_lumbar.train.prepare import PrepareOptions
    from rsna_lumbar.train.prepare import prepare as prepare_groups

    try:
        options = PrepareOptions(
            size_px=image_size,
            preprocessing=Preprocessing(*window),
            least_box_px=least_box_px,
            val_fraction=val_fraction,
            seed=seed,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    for made in prepare_groups(root, out, options, workers=workers, track=_tracked):
        images, boxes = made.images, made.boxes
        click.echo(
            f"{made.group:13} train {images['train']:6} images {boxes['train']:6} boxes   "
            f"val {images['val']:6} images {boxes['val']:6} boxes"
        )
        for reason, count in made.left_out.items():
            click.echo(f"{'':13} left out {count:6} {reason}")


def _tracked(items: Iterable[T], title: str, total: int) -> Iterable[T]:
    from tqdm import tqdm

    return tqdm(items, desc=title, total=total, disable=None)
