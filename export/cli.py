"""``rsna-export``: checkpoints in, a verified bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsna_lumbar.runtime.command_line import common_options, entry_point
from rsna_lumbar.runtime.labels import GROUPS

if TYPE_CHECKING:
    from rsna_lumbar.runtime.grading import Combination

INTACT, DAMAGED = 0, 1
WEIGHTS = click.Path(dir_okay=False, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--spinal", multiple=True, type=WEIGHTS, help="Checkpoint (.pt); more: an ensemble.")
@click.option("--foraminal", multiple=True, type=WEIGHTS, help="As --spinal.")
@click.option("--subarticular", multiple=True, type=WEIGHTS, help="As --spinal.")
@click.option("--format", "formats", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option("--precision", type=click.Choice(["fp32"]), default="fp32", show_default=True)
@click.option(
    "--image-size",
    type=click.IntRange(min=32),
    help="Side of the slices in pixels, a multiple of 32. Default: as trained.",
)
@click.option(
    "--verify-data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="DICOM folder whose slices the graphs are verified on. Default: phantom studies.",
)
@click.option(
    "--combination",
    type=click.Choice(["maximum", "mean"]),
    default="mean",
    show_default=True,
    help="How the peaks of an ensemble's detectors become one; maximum is the method's.",
)
@click.option("--inspect", "inspecting", is_flag=True, help="Only show what BUNDLE holds.")
@common_options
def cli(
    bundle: Path,
    spinal: tuple[Path, ...],
    foraminal: tuple[Path, ...],
    subarticular: tuple[Path, ...],
    formats: str,
    precision: str,
    image_size: int | None,
    verify_data: Path | None,
    combination: Combination,
    inspecting: bool,
) -> int:
    """Export YOLOv8 checkpoints to BUNDLE, a folder that rsna-run scores with.

    Each graph is verified against PyTorch on the same slices; where a peak differs by more than
    1e-5 or a probability by more than 1e-4, nothing is written. Checkpoints are pickles: export
    only files that you trust.
    """
    weights = dict(zip((g.name for g in GROUPS), (spinal, foraminal, subarticular), strict=True))
    if inspecting:
        if any(weights.values()):
            raise click.UsageError("--inspect takes no checkpoints")
        return _inspect(bundle)
    missing = [f"--{name}" for name, paths in weights.items() if not paths]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)}: a bundle needs all three groups")
    return _build(bundle, weights, image_size, verify_data, combination)


def _inspect(folder: Path) -> int:
    from rsna_lumbar.export.inspect import table
    from rsna_lumbar.runtime.bundle import read_bundle

    text, intact = table(folder, read_bundle(folder))
    click.echo(text)
    return INTACT if intact else DAMAGED


def _build(
    folder: Path,
    weights: dict[str, tuple[Path, ...]],
    image_size_px: int | None,
    verify_data: Path | None,
    combination: Combination,
) -> int:
    from rsna_lumbar.runtime.third_party import prepare_third_party

    prepare_third_party("export")
    from rsna_lumbar.export.build import build_bundle

    bundle = build_bundle(
        folder,
        weights,
        image_size_px=image_size_px,
        verify_data=verify_data,
        report=lambda line: click.echo(line, err=True),
        combination=combination,
    )
    for detector in bundle.detectors:
        for model in detector.models:
            parity = model.parity
            click.echo(
                f"{model.file}: largest difference from PyTorch on {parity.slices} slices "
                f"({parity.source}): peak {parity.peak:.1e}, probability {parity.probability:.1e}"
            )
    click.echo(f"{folder} is ready: rsna-run DATA --bundle {folder} --output submission.csv")
    return INTACT


main = entry_point(cli, "rsna-export")
