"""``rsna-train prepare``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import GROUP_BY_NAME
from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import EXISTING_FOLDER, FOLDER, WORKERS

if TYPE_CHECKING:
    from rsna_lumbar.train.dataset.boxes import BoxSize

T = TypeVar("T")


@click.command()
@click.argument("root", type=EXISTING_FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--image-size", type=click.IntRange(32), default=384, show_default=True)
@click.option(
    "--box",
    "boxes",
    metavar="GROUP=SIZE",
    multiple=True,
    help="Side of a group's boxes: a share of the image (20/384), pixels of the square (20px) or "
    "millimetres (12mm). Repeatable.  [default: 20/384, foraminal=40/384]",
)
@click.option(
    "--least-box-px",
    type=click.FloatRange(0),
    default=16.0,
    show_default=True,
    help="Smallest side of a box in the square.",
)
@click.option(
    "--labels",
    "scheme",
    type=click.Choice(["all", "mask-non-severe"]),
    default="all",
    show_default=True,
    help="Every label, or only the severe ones of an image that carries several, one severe.",
)
@click.option(
    "--none-severe",
    type=click.Choice(["keep", "drop", "background"]),
    default="keep",
    show_default=True,
    help="With mask-non-severe: what becomes of an image with several labels and none severe.",
)
@click.option(
    "--window",
    type=(click.FloatRange(0, 100), click.FloatRange(0, 100)),
    default=(0.5, 99.5),
    show_default=True,
    help="Percentiles of a slice that become black and white.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="Parts that the studies are dealt out to, by severity.",
)
@click.option(
    "--fold",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which of them is for validation, from 0.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the folds.")
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

    Started again with the same options it goes on where it was interrupted.
    """
    from rsna_lumbar.runtime.core.preprocess import Preprocessing
    from rsna_lumbar.train.dataset.boxes import METHOD_BOX
    from rsna_lumbar.train.dataset.label_scheme import LabelScheme
    from rsna_lumbar.train.dataset.prepare import PrepareOptions
    from rsna_lumbar.train.dataset.prepare import prepare as prepare_groups
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
    summaries = prepare_groups(root, out, options, workers=workers, track=_tracked)
    click.echo("\n\n".join(map(as_table, summaries)))
    click.echo(f"\n{out} is ready; look at */contact_sheet.png, then: rsna-train fit {out} WEIGHTS")


def _box(text: str) -> tuple[str, BoxSize]:
    from rsna_lumbar.train.dataset.boxes import parse_box_size

    group, _, size = text.partition("=")
    if group not in GROUP_BY_NAME or not size:
        raise ValueError(f"--box takes GROUP=SIZE, such as foraminal=12mm, not {text!r}")
    return group, parse_box_size(size)


def _tracked(items: Iterable[T], title: str, total: int) -> Iterable[T]:
    from tqdm import tqdm

    return tqdm(items, desc=title, total=total, disable=None)
