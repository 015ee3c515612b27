"""``rsna-export``: checkpoints in, a verified bundle out; and what is done to a bundle later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from rsna_lumbar.runtime.core.labels import GROUPS
from rsna_lumbar.runtime.system.entry_point import common_options, entry_point

if TYPE_CHECKING:
    from rsna_lumbar.export.bundling.build import Outcome
    from rsna_lumbar.export.bundling.options import ExportOptions
    from rsna_lumbar.runtime.core.postprocess import Combination

DONE, DAMAGED, LEFT_OUT = 0, 1, 3
WEIGHTS = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
FORMATS = ("onnx", "openvino", "tensorrt", "tensorrt-rtx")
# What each way to call it looks at.
BUILDING = ("image_size", "combination", "window")
ADDING = (
    "formats", "precisions", "calibration_data", "batch_size", "capabilities", "timing_cache",
)  # fmt: skip
VERIFYING = ("verify_data", "verify_labels", "verify_studies", "limits")
LARGEST_TO_BEST = 4  # batch sizes of engines
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--spinal", multiple=True, type=WEIGHTS, help="Checkpoint (.pt); more: an ensemble.")
@click.option("--foraminal", multiple=True, type=WEIGHTS, help="As --spinal.")
@click.option("--subarticular", multiple=True, type=WEIGHTS, help="As --spinal.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    default=("onnx",),
    show_default=True,
    help="May be repeated. onnx in fp32 is in every bundle.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    default=("fp32",),
    show_default=True,
    help="May be repeated; every pair with a format that there is gets made. bf16 is OpenVINO's.",
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
    help="Percentiles of a slice's values that were black and white in training, for checkpoints "
    "without a card; 0 100 is min-max. Default: 0.5 99.5, as rsna-train makes them.",
)
@click.option(
    "--combination",
    type=click.Choice(["maximum", "mean"]),
    default="mean",
    show_default=True,
    help="How the peaks of an ensemble's detectors become one; maximum is the method's.",
)
@click.option(
    "--calibration-data",
    type=FOLDER,
    help="DICOM folder whose slices int8 is calibrated on; other studies than those that are "
    "verified on.",
)
@click.option(
    "--verify-data",
    type=FOLDER,
    help="DICOM folder whose slices the models are verified on. Default: phantom studies.",
)
@click.option(
    "--verify-labels",
    type=FILE,
    help="Grades of them, as train.csv has them: the official metric before and after.",
)
@click.option(
    "--verify-studies",
    type=click.IntRange(1),
    help="Most studies to verify on. Default: 4, with labels 100.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="PRECISION:NAME=VALUE",
    help="What a model may differ by, such as int8:changed=0.02. Names: peak, probability, "
    "probability_p999, changed, metric.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Slices in a batch that engines are tuned for; they take up to four times as many.",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="N.N",
    help="GPUs to build engines for, such as 8.9; may be repeated. Default: the one here, else "
    "all that TensorRT-RTX knows but 7.5.",
)
@click.option("--timing-cache", type=FILE, help="Of TensorRT's builder: read and written.")
@click.option("--inspect", "inspecting", is_flag=True, help="Only show what BUNDLE holds.")
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

    A bundle needs one group at least. Naming a group that BUNDLE lacks adds it, naming one that it
    has replaces it; the others stay, with their calibration. Without checkpoints, formats and
    precisions are added to a bundle that is there; its calibration stays. Every model is verified
    against PyTorch float32 (later ones against the bundle's own float32 graph) on the same slices.
    What is over the limits is left out, with the reason, also where the bundle had it before;
    where that is the float32 graph itself, nothing is written. What this machine cannot run is
    marked unverified, and rsna-run does not use it until --verify has completed it where it can
    run. An engine whose builder fails, crashes or hangs is left out as well; one that the bundle
    had stays.

    Exit codes: 0 done; 3 done, but a model was left out; 2 wrong usage; 1 failure, or with
    --inspect a damaged file. Checkpoints are pickles: export only files that you trust.
    """
    weights = dict(zip((g.name for g in GROUPS), (spinal, foraminal, subarticular), strict=True))
    given = any(weights.values())
    if inspecting:
        _refuse_unused("--inspect", ())
        return _inspect(bundle)
    if verifying:
        _refuse_unused("--verify", ("trust", *VERIFYING))
    elif given:
        _refuse_unused("checkpoints", (*weights, *BUILDING, *ADDING, *VERIFYING))
    elif not (bundle / "bundle.json").exists():
        options_of = ", ".join(f"--{name}" for name in weights)
        raise click.UsageError(f"{bundle} is no bundle yet: name a checkpoint ({options_of})")
    else:
        _refuse_unused("a bundle and no checkpoints", (*ADDING, *VERIFYING))
    options = _options(
        formats, precisions, calibration_data, verify_data, verify_labels, verify_studies,
        limits, batch_size, capabilities, timing_cache,
    )  # fmt: skip
    if verifying:
        from rsna_lumbar.export.bundling.build import verify_bundle

        return _tell(bundle, verify_bundle(bundle, options=options, trust=trust, report=_say))
    return _build(bundle, weights if given else {}, image_size, window, combination, options)


def _refuse_unused(mode: str, used: Sequence[str]) -> None:
    """Refuse options that would be ignored."""
    context = click.get_current_context()
    modes = ("bundle", "inspecting" if mode == "--inspect" else "verifying")
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name not in (*modes, *used) and source is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} means nothing with {mode}")


def _options(
    formats: tuple[str, ...],
    precisions: tuple[str, ...],
    calibration_data: Path | None,
    verify_data: Path | None,
    verify_labels: Path | None,
    verify_studies: int | None,
    limits: tuple[str, ...],
    batch_size: int,
    capabilities: tuple[str, ...],
    timing_cache: Path | None,
) -> ExportOptions:
    from rsna_lumbar.export.bundling.options import ExportOptions
    from rsna_lumbar.export.formats import BuildOptions
    from rsna_lumbar.export.verification.limits import with_changes

    return ExportOptions(
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


def _inspect(folder: Path) -> int:
    from rsna_lumbar.export.verification.report import table
    from rsna_lumbar.runtime.bundle.manifest import read_bundle

    text, intact = table(folder, read_bundle(folder))
    click.echo(text)
    return DONE if intact else DAMAGED


def _build(
    folder: Path,
    weights: dict[str, tuple[Path, ...]],
    image_size_px: int | None,
    window: tuple[float, float] | None,
    combination: Combination,
    options: ExportOptions,
) -> int:
    from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

    if not weights:
        prepare_third_party("convert")
        from rsna_lumbar.export.bundling.build import extend_bundle

        return _tell(folder, extend_bundle(folder, options=options, report=_say))
    prepare_third_party("export")
    from rsna_lumbar.export.bundling.build import build_bundle

    outcome = build_bundle(
        folder,
        weights,
        image_size_px=image_size_px,
        combination=combination,
        window=window,
        options=options,
        report=_say,
    )
    return _tell(folder, outcome)


def _tell(folder: Path, outcome: Outcome) -> int:
    from rsna_lumbar.export.verification.report import verification_table

    click.echo(verification_table(outcome.bundle))
    for variant, why in outcome.left_out.items():
        click.echo(f"{variant} is left out: {why}", err=True)
    click.echo(f"{folder} is ready: rsna-run DATA --bundle {folder} --output submission.csv")
    return LEFT_OUT if outcome.left_out else DONE


def _say(line: str) -> None:
    click.echo(line, err=True)


main = entry_point(cli, "rsna-export")
