"""``rsna-train fit``."""

from __future__ import annotations

from pathlib import Path

import click

from rsna_lumbar.runtime.core.labels import GROUP_BY_NAME, GROUPS
from rsna_lumbar.runtime.system.entry_point import common_options
from rsna_lumbar.train.commands.shared import EXISTING_FOLDER, FOLDER, SEED


@click.command()
@click.argument("data", type=EXISTING_FOLDER)
@click.argument("out", type=FOLDER)
@click.option(
    "--group",
    "groups",
    multiple=True,
    type=click.Choice(list(GROUP_BY_NAME)),
    help="Detector to train; may be repeated. Without it, all three.",
)
@click.option(
    "--model",
    default="yolov8n.yaml",
    help="yolov8{n,s,m,l,x}.yaml with random weights, demo (small), or a .pt file to start from.",
)
@click.option("--epochs", type=click.IntRange(1), default=50)
@click.option("--batch-size", type=click.IntRange(1), default=16)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=0.002)
@click.option(
    "--augmentation",
    type=click.Choice(["light", "method"]),
    default="light",
    help="light: small shifts and changes of scale; method: larger ones, and mosaics.",
)
@click.option(
    "--axial-flip",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Share of axial slices mirrored, with left and right classes exchanged. Sagittal slices "
    "are never mirrored.",
)
@click.option(
    "--repeat-rare",
    type=click.IntRange(1),
    default=1,
    help="How often each slice with a moderate or severe label is used per epoch.",
)
@SEED
@click.option("--device", default="auto", help="auto, cpu, 0, or 0,1.")
@click.option(
    "--workers", type=click.IntRange(0), default=8, help="Processes that load images for a GPU."
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Detectors trained at the same time.  [default: one per core on a CPU, else 1]",
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, help="Threads of each training on a CPU."
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
    """Train detectors on DATA, made by prepare, and write them to OUT.

    The image size is that of DATA. The same call again resumes interrupted trainings and skips
    finished ones.
    """
    from tqdm import tqdm

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
    done: dict[str, int] = {}
    with tqdm(total=epochs * len(chosen), desc="fit", disable=None) as bar:

        def show(group: str, epochs: int) -> None:
            """A resumed training starts with its earlier epochs."""
            bar.set_postfix_str(f"{group} {epochs}", refresh=False)
            bar.update(epochs - done.get(group, 0))
            done[group] = epochs

        fitted = fit_groups(data, chosen, out, options, progress=show)
    for one in fitted:
        if one.already:
            click.echo(f"{one.files.group}: finished already", err=True)
        click.echo(one.files.weights)
