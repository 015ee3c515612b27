"""``rsna-bench pipeline``: DICOM to submission against the method's own way, stage by stage."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path

import click

from rsna_lumbar.benchmarks.commands.shared import command_line, output_options
from rsna_lumbar.benchmarks.variants import Variant, read_variants
from rsna_lumbar.runtime.command_line import common_options
from rsna_lumbar.runtime.cores import usable_cores

VARIANTS = "onnxruntime:fp32,onnxruntime:int8,openvino:fp32,openvino:bf16,openvino:int8"


def variants_option(_: click.Context, __: click.Parameter, text: str) -> tuple[Variant, ...]:
    """Read ``--variants``."""
    return read_variants(text)


def _counts(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise click.BadParameter("give whole numbers with commas between: 1,20") from None
    if counts[0] < 1:
        raise click.BadParameter("every number must be at least 1")
    return counts


@click.command("pipeline")
@click.option(
    "--variants",
    default=VARIANTS,
    show_default=True,
    callback=variants_option,
    help="BACKEND:PRECISION[:SLICES] of ours, with commas between.",
)
@click.option("--studies", default="1,20", show_default=True, callback=_counts, help="Of one run.")
@click.option(
    "--method-studies",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Most studies that the method's own way is run on; 0 leaves it out.",
)
@click.option(
    "--stress-studies",
    type=click.IntRange(2),
    help="Ours once over so many as well, such as 200: do time and memory stay in proportion?",
)
@click.option(
    "--scale",
    type=click.Choice(("n", "s", "m", "l", "x")),
    default="s",
    show_default=True,
    help="YOLOv8 scale of the random weights.",
)
@click.option("--size", "size_px", type=click.IntRange(32), default=384, show_default=True)
@click.option("--workers", type=click.IntRange(0), help="Decoding processes; as rsna-run if unset.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to keep studies, checkpoints and bundle in; temporary if not set.",
)
@output_options(rounds=3)
@common_options
@click.pass_context
def cli(
    context: click.Context,
    variants: tuple[Variant, ...],
    studies: tuple[int, ...],
    method_studies: int,
    stress_studies: int | None,
    scale: str,
    size_px: int,
    workers: int | None,
    work: Path | None,
    rounds: int,
    threads: int | None,
    json_path: Path | None,
    csv_path: Path | None,
    plot_path: Path | None,
) -> None:
    """Time DICOM to submission on the median study, ours against the method's own way.

    Every run is a fresh process, in turns. Then each stage is timed alone, with the limits that
    decoding and inference set, and the rows are compared with the PyTorch forward pass.
    """
    from rsna_lumbar.runtime.third_party import prepare_third_party

    prepare_third_party("bench")
    from rsna_lumbar.benchmarks.pipeline_bench import PipelineOptions, run_pipeline
    from rsna_lumbar.benchmarks.pipeline_report import make_results
    from rsna_lumbar.benchmarks.pipeline_table import pipeline_table
    from rsna_lumbar.benchmarks.report import write_outputs

    options = PipelineOptions(
        variants=variants,
        studies=studies,
        method_studies=method_studies,
        stress_studies=stress_studies,
        scale=scale,
        size_px=size_px,
        rounds=rounds,
        threads=threads or usable_cores(),
        workers=workers,
    )
    if work:
        work.mkdir(parents=True, exist_ok=True)
    opened = nullcontext(str(work)) if work else tempfile.TemporaryDirectory(prefix="rsna-bench-")
    with opened as folder:
        found = run_pipeline(
            options, Path(folder).resolve(), report=lambda line: click.echo(line, err=True)
        )
    results = make_results(options, found, command_line(context))
    write_outputs(results, json_path=json_path, csv_path=csv_path)
    if plot_path:
        from rsna_lumbar.benchmarks.pipeline_plots import draw_pipeline

        draw_pipeline(results, plot_path)
    click.echo(pipeline_table(results))
