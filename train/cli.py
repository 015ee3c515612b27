"""``rsna-train``: phantom, prepare, fit, evaluate. Bodies import what they need when they run."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rsna_lumbar.runtime.command_line import common_options, entry_point
from rsna_lumbar.runtime.errors import UsageError
from rsna_lumbar.runtime.labels import GROUP_BY_NAME, GROUPS

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
EXISTING_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
WORKERS = click.option(
    "--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes."
)


@click.group()
@common_options
def cli() -> None:
    """Train the three detectors and measure them."""


@cli.command()
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
@click.option("--quirks", default="", help="Comma list of oddities of the real files, or all.")
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
    with _bar("phantom", studies) as bar:
        make_phantom(out, options, workers=workers, progress=partial(_done, bar))


@cli.command()
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


@cli.command()
@click.argument("data", type=EXISTING_FOLDER)
@click.argument("out", type=FOLDER)
@click.option(
    "--group",
    "groups",
    multiple=True,
    type=click.Choice(list(GROUP_BY_NAME)),
    help="Repeatable; all three without it.",
)
@click.option(
    "--model",
    default="yolov8n.yaml",
    show_default=True,
    help="yolov8{n,s,m,l,x}.yaml from nothing, demo (small), or a .pt file to start from.",
)
@click.option("--epochs", type=click.IntRange(1), default=50, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), default=0.002, show_default=True
)
@click.option("--mosaic", type=click.FloatRange(0, 1), default=0.0, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, 0, or 0,1.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    help="Processes that load images for a GPU.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Detectors trained at a time.  [default: one per core on a CPU, else 1]",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads of each training on a CPU.",
)
@common_options
def fit(
    data: Path,
    out: Path,
    groups: tuple[str, ...],
    model: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    mosaic: float,
    seed: int,
    device: str,
    workers: int,
    jobs: int | None,
    threads: int,
) -> None:
    """Train detectors on DATA (from prepare) and write weights and cards to OUT."""
    from rsna_lumbar.train.fit import FitOptions
    from rsna_lumbar.train.fit import fit as fit_groups

    chosen = [GROUP_BY_NAME[name] for name in dict.fromkeys(groups)] or list(GROUPS)
    options = FitOptions(
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        mosaic=mosaic,
        seed=seed,
        device=device,
        workers=workers,
        jobs=jobs or 0,
        threads=threads,
    )
    with _bar("fit", epochs * len(chosen)) as bar:
        fit_groups(data, chosen, out, options, progress=partial(_epoch_done, bar))
    for group in chosen:
        click.echo(out / f"{group.name}.pt")


@cli.command()
@click.argument("submission", type=EXISTING_FILE)
@click.option(
    "--labels",
    type=EXISTING_FILE,
    required=True,
    help="Table in train.csv's layout of exactly the studies of the submission.",
)
@click.option(
    "--prior-labels",
    type=EXISTING_FILE,
    help="Such a table of the training studies, to count the prior on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object instead of a table.")
@common_options
def evaluate(submission: Path, labels: Path, prior_labels: Path | None, as_json: bool) -> None:
    """Score SUBMISSION by the challenge's metric, beside the weighted class prior."""
    from rsna_lumbar.train import evaluate as evaluation

    result = evaluation.evaluate(submission, labels, prior_labels)
    click.echo(evaluation.as_json(result) if as_json else evaluation.as_table(result))


def _three_numbers(text: str) -> tuple[float, float, float]:
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        message = "--frequencies takes three numbers, such as 0.77,0.16,0.06"
        raise ValueError(message) from None
    return first, second, third


def _bar(title: str, total: int) -> tqdm[Any]:
    """A progress bar on standard error."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, disable=None)


def _tracked(items: Iterable[T], title: str, total: int) -> Iterable[T]:
    from tqdm import tqdm

    return tqdm(items, desc=title, total=total, disable=None)


def _done(bar: tqdm[Any], count: int) -> None:
    bar.update(count)


def _epoch_done(bar: tqdm[Any], group: str, epochs: int) -> None:
    bar.set_postfix_str(f"{group} {epochs}", refresh=False)
    bar.update()


main = entry_point(cli, "rsna-train")
