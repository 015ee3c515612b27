"""The command ``rsna-export``: make a verified bundle from checkpoints, extend or verify it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsna_lumbar.runtime.system.entry_point import common_options, entry_point, typed_parameters

if TYPE_CHECKING:
    from rsna_lumbar.export.bundling.build import Outcome
    from rsna_lumbar.runtime.core.postprocess import Combination

DONE, DAMAGED, EXCLUDED = 0, 1, 3
FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FORMATS = ("onnx", "openvino", "tensorrt", "tensorrt-rtx")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
LARGEST_TO_BEST = 4  # batch sizes of engines
# The options that each mode reads.
VERIFYING = ("verify_data", "verify_labels", "verify_studies", "limits")
ADDING = (
    *VERIFYING, "formats", "precisions", "calibration_data", "batch_size", "capabilities",
    "timing_cache",
)  # fmt: skip
BUILDING = (
    *ADDING, "spinal", "foraminal", "subarticular", "image_size", "combination", "window",
)  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--spinal", multiple=True, type=FILE, help="Checkpoint (.pt); more: an ensemble.")
@click.option("--foraminal", multiple=True, type=FILE, help="As --spinal.")
@click.option("--subarticular", multiple=True, type=FILE, help="As --spinal.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    default=("onnx",),
    help="Repeatable. Every bundle has onnx in fp32.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    default=("fp32",),
    help="Repeatable; each format is made in each of them that it has. Only openvino has bf16.",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=32),
    help="Side of the slices in pixels, a multiple of 32. Default: as trained.",
)
@click.option(
    "--window",
    type=(float, float),
    metavar="LOW HIGH",
    help="Percentiles of a slice that training made black and white, for checkpoints without a "
    "card; 0 100 is min-max. Default: 0.5 99.5, as in rsna-train.",
)
@click.option(
    "--combination",
    type=click.Choice(["maximum", "mean"]),
    default="mean",
    help="How the peaks of an ensemble are combined; the original method takes the maximum.",
)
@click.option(
    "--calibration-data",
    type=EXISTING_FOLDER,
    help="DICOM folder to calibrate int8 on; use other studies than for --verify-data.",
)
@click.option(
    "--verify-data",
    type=EXISTING_FOLDER,
    help="DICOM folder to verify the models on. Default: phantom studies.",
)
@click.option(
    "--verify-labels",
    type=FILE,
    help="Its grades, in the layout of train.csv, to compare the official metric too.",
)
@click.option(
    "--verify-studies",
    type=click.IntRange(1),
    help="Most studies to verify on. Default: 4; with labels 100.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="PRECISION:NAME=VALUE",
    help="Largest difference that is accepted, such as int8:changed=0.02. Names: peak, "
    "probability, probability_p999, changed, metric.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=16,
    help="Batch size that engines are tuned for; they accept up to four times as many slices.",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="N.N",
    help="GPUs to build engines for, such as 8.9; repeatable. Default: the GPU here; without one, "
    "all that TensorRT-RTX lists except 7.5.",
)
@click.option("--timing-cache", type=FILE, help="Cache of TensorRT's builder, read and written.")
@click.option("--inspect", "inspecting", is_flag=True, help="Only show what BUNDLE contains.")
@click.option(
    "--verify",
    "verifying",
    is_flag=True,
    help="Verify and time all models of BUNDLE that this machine can run.",
)
@click.option(
    "--trust", is_flag=True, help="With --verify: accept engines from elsewhere. They are code."
)
@common_options
def cli(
    bundle: Path,
    spinal: tuple[Path, ...],
    foraminal: tuple[Path, ...],
    subarticular: tuple[Path, ...],
    formats: tuple[str, ...],
    precisions: tuple[str, ...],
    image_size: int | None,
    window: tuple[float, float] | None,
    combination: Combination,
    calibration_data: Path | None,
    verify_data: Path | None,
    verify_labels: Path | None,
    verify_studies: int | None,
    limits: tuple[str, ...],
    batch_size: int,
    capabilities: tuple[str, ...],
    timing_cache: Path | None,
    inspecting: bool,
    verifying: bool,
    trust: bool,
) -> int:
    """Export YOLOv8 checkpoints to BUNDLE, a folder that rsna-run scores with.

    A bundle has at least one group. Naming a group that BUNDLE lacks adds it; naming one that it
    has replaces it. The other groups stay, with their calibration. Without checkpoints, formats and
    precisions are added to an existing bundle; its calibration stays.

    Every model is verified on the same slices: against PyTorch float32, or, if it is added later,
    against the bundle's float32 graph. Models that exceed the limits are excluded, with the reason,
    even if the bundle had them before. If the float32 graph itself exceeds them, nothing is
    written. A model that this machine cannot run is marked unverified; rsna-run does not use it
    until --verify has verified it on a machine that can. An engine whose builder fails, crashes or
    hangs is excluded too, but an earlier one in the bundle stays.

    Exit codes: 0 done; 3 done, but a model was excluded; 2 wrong usage; 1 failure, or a damaged
    file with --inspect. Checkpoints are pickles: export only files that you trust.
    """
    weights = {"spinal": spinal, "foraminal": foraminal, "subarticular": subarticular}
    given = any(weights.values())
    if inspecting:
        _refuse_others("with --inspect", "inspecting")
        return _inspect(bundle)
    if verifying:
        _refuse_others("with --verify", "verifying", "trust", *VERIFYING)
    elif given:
        _refuse_others("with checkpoints", *BUILDING)
    elif not (bundle / "bundle.json").exists():
        names = ", ".join(f"--{name}" for name in weights)
        raise click.UsageError(f"{bundle} is not a bundle yet: name a checkpoint ({names})")
    else:
        _refuse_others("without checkpoints", *ADDING)

    from rsna_lumbar.export.bundling.build import build_bundle, extend_bundle, verify_bundle
    from rsna_lumbar.export.bundling.options import ExportOptions
    from rsna_lumbar.export.formats import BuildOptions
    from rsna_lumbar.export.verification.limits import with_changes
    from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

    options = ExportOptions(
        formats=tuple(dict.fromkeys(formats)),
        precisions=tuple(dict.fromkeys(precisions)),
        build=BuildOptions(
            best_batch=batch_size,
            largest_batch=LARGEST_TO_BEST * batch_size,
            compute_capabilities=capabilities,
            timing_cache=timing_cache,
        ),
        calibration_data=calibration_data,
        verify_data=verify_data,
        verify_labels=verify_labels,
        verify_studies=verify_studies,
        limits=with_changes(limits),
    )
    if verifying:
        return _tell(bundle, verify_bundle(bundle, options=options, trust=trust, report=_say))
    prepare_third_party("export" if given else "convert")
    if not given:
        return _tell(bundle, extend_bundle(bundle, options=options, report=_say))
    outcome = build_bundle(
        bundle,
        weights,
        image_size_px=image_size,
        combination=combination,
        window=window,
        options=options,
        report=_say,
    )
    return _tell(bundle, outcome)


def _refuse_others(mode: str, *used: str) -> None:
    """Reject options that would be ignored."""
    for option in typed_parameters(click.get_current_context()):
        if option.name not in ("bundle", *used):
            raise click.UsageError(f"{option.opts[0]} cannot be used {mode}")


def _inspect(folder: Path) -> int:
    from rsna_lumbar.export.verification.report import table
    from rsna_lumbar.runtime.bundle.manifest import read_bundle

    text, intact = table(folder, read_bundle(folder))
    click.echo(text)
    return DONE if intact else DAMAGED


def _tell(folder: Path, outcome: Outcome) -> int:
    from rsna_lumbar.export.verification.report import verification_table

    click.echo(verification_table(outcome.bundle))
    for variant, why in outcome.left_out.items():
        click.echo(f"{variant} is excluded: {why}", err=True)
    click.echo(f"{folder} is ready: rsna-run DATA --bundle {folder} --output submission.csv")
    return EXCLUDED if outcome.left_out else DONE


def _say(line: str) -> None:
    click.echo(line, err=True)


main = entry_point(cli, "rsna-export")
