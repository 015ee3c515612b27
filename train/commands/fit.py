"""``rsna-train fit``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsna_lumbar.runtime.core.labels import GROUP_BY_NAME, GROUPS
from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import EXISTING_FOLDER, FOLDER, progress_bar

if TYPE_CHECKING:
    from tqdm import tqdm


@click.command()
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
@click.option(
    "--augmentation",
    type=click.Choice(["light", "method"]),
    default="light",
    show_default=True,
    help="light: shift and scale a little; method: more of both, and mosaics.",
)
@click.option(
    "--axial-flip",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of axial slices mirrored, with left and right exchanged; sagittal ones never are.",
)
@click.option(
    "--repeat-rare",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Times that a slice with a moderate or severe label is seen in an epoch.",
)
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
    augmentation: str,
    axial_flip: float,
    repeat_rare: int,
    seed: int,
    device: str,
    workers: int,
    jobs: int | None,
    threads: int,
) -> None:
    """Train detectors on DATA (from prepare, which decides the image size) into OUT.

    The same call again resumes what was interrupted and leaves alone what is finished.
    """
    from rsna_lumbar.train.fitting.fit import FitOptions
    from rsna_lumbar.train.fitting.fit import fit as fit_groups

    chosen = [GROUP_BY_NAME[name] for name in dict.fromkeys(groups)] or list(GROUPS)
    options = FitOptions(
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augmentation=augmentation,
        axial_flip=axial_flip,
        repeat_rare=repeat_rare,
        seed=seed,
        device=device,
        workers=workers,
        jobs=jobs or 0,
        threads=threads,
    )
    with progress_bar("fit", epochs * len(chosen)) as bar:
        fitted = fit_groups(data, chosen, out, options, progress=partial(_show, bar, {}))
    for one in fitted:
        if one.already:
            click.echo(f"{one.files.group}: finished already", err=True)
        click.echo(one.files.weights)


def _show(bar: tqdm[Any], done: dict[str, int], group: str, epochs: int) -> None:
    """A resumed training begins with the epochs that it had."""
    bar.set_postfix_str(f"{group} {epochs}", refresh=False)
    bar.update(epochs - done.get(group, 0))
    done[group] = epochs
