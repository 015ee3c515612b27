"""``rsna-train prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import GROUP_BY_NAME
from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import EXISTING_FOLDER, FOLDER, FOLDS, SEED, WORKERS, tracked

if TYPE_CHECKING:
    from rsna_lumbar.train.dataset.boxes import BoxSize


@click.command()
@click.argument("root", type=EXISTING_FOLDER)
@click.argument("out", type=FOLDER)
@click.option(
    "--image-size", type=click.IntRange(32), default=384, help="Side of the images in pixels."
)
@click.option(
    "--box",
    "boxes",
    metavar="GROUP=SIZE",
    multiple=True,
    help="Side of a group's boxes: a share of the image (20/384), pixels of the square (20px) or "
    "millimetres (12mm). May be repeated.  [default: 20/384, foraminal=40/384]",
)
@click.option(
    "--least-box-px",
    type=click.FloatRange(0),
    default=16.0,
    help="Smallest side of a box, in pixels of the square.",
)
@click.option(
    "--labels",
    "scheme",
    type=click.Choice(["all", "mask-non-severe"]),
    default="all",
    help="all: every label; mask-non-severe: only the severe labels of an image that has several "
    "labels, at least one of them severe.",
)
@click.option(
    "--none-severe",
    type=click.Choice(["keep", "drop", "background"]),
    default="keep",
    help="With mask-non-severe: what to do with an image that has several labels, none severe.",
)
@click.option(
    "--window",
    type=(click.FloatRange(0, 100), click.FloatRange(0, 100)),
    default=(0.5, 99.5),
    help="Percentiles of a slice that become black and white.",
)
@FOLDS
@click.option(
    "--fold", type=click.IntRange(0), default=0, help="Fold for validation, counted from 0."
)
@SEED
@WORKERS
@common_options
def prepare(
    root: Path,
    out: Path,
    image_size: int,
    boxes: tuple[str, ...],
    least_box_px: float,
    scheme: str,
    none_severe: str,
    window: tuple[float, float],
    folds: int,
    fold: int,
    seed: int,
    workers: int,
) -> None:
    """Turn the tables and DICOM files of ROOT into three YOLO data sets in OUT.

    If it is interrupted, the same call continues where it stopped.
    """
    from rsna_lumbar.runtime.core.preprocess import Preprocessing
    from rsna_lumbar.train.dataset.boxes import METHOD_BOX
    from rsna_lumbar.train.dataset.label_scheme import LabelScheme
    from rsna_lumbar.train.dataset.prepare import prepare as prepare_groups
    from rsna_lumbar.train.dataset.slice_images import PrepareOptions
    from rsna_lumbar.train.dataset.split import Folds
    from rsna_lumbar.train.dataset.summary import as_table

    try:
        options = PrepareOptions(
            size_px=image_size,
            preprocessing=Preprocessing(*window),
            boxes=METHOD_BOX | dict(map(_box, boxes)),
            least_box_px=least_box_px,
            scheme=LabelScheme(name=scheme, none_severe=none_severe),
            folds=Folds(folds=folds, fold=fold, seed=seed),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    summaries = prepare_groups(root, out, options, workers=workers, track=tracked)
    click.echo("\n\n".join(map(as_table, summaries)))
    click.echo(f"\n{out} is ready; look at */contact_sheet.png, then: rsna-train fit {out} WEIGHTS")


def _box(text: str) -> tuple[str, BoxSize]:
    from rsna_lumbar.train.dataset.boxes import parse_box_size

    group, _, size = text.partition("=")
    if group not in GROUP_BY_NAME or not size:
        raise ValueError(f"--box takes GROUP=SIZE, such as foraminal=12mm, not {text!r}")
    return group, parse_box_size(size)
