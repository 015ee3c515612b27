"""``rsna-bench pipeline``: DICOM to submission against the method's own way, stage by stage."""

from __future__ import annotations

from pathlib import Path

import click

from rsna_lumbar.benchmarks.commands.shared import (
    bundle_options,
    command_line,
    output_options,
    work_folder,
)
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.entry_point import common_options


def _counts(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise click.BadParameter("give whole numbers with commas between: 1,20") from None
    if counts[0] < 1:
        raise click.BadParameter("every number must be at least 1")
    return counts


@click.command("pipeline")
@bundle_options
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
@click.option("--workers", type=click.IntRange(1), help="Decoding processes; as rsna-run if unset.")
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
    decoding and inference set, and the rows are compared with the PyTorch forward pass. Files are
    written anew after each of these blocks, so that a run which is stopped leaves what it found.
    """
    from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

    prepare_third_party("bench")
    from rsna_lumbar.benchmarks.harness.report import write_outputs
    from rsna_lumbar.benchmarks.pipeline.bench import PipelineOptions, run_pipeline
    from rsna_lumbar.benchmarks.pipeline.report import make_results
    from rsna_lumbar.benchmarks.pipeline.table import pipeline_table

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
    with work_folder(work) as folder:
        for found in run_pipeline(options, folder, report=lambda line: click.echo(line, err=True)):
            results = make_results(options, found, command_line(context))
            write_outputs(results, json_path=json_path, csv_path=csv_path)
            if plot_path:
                from rsna_lumbar.benchmarks.pipeline.plots import draw_pipeline

                draw_pipeline(results, plot_path)
    click.echo(pipeline_table(results))
