"""``rsna-bench pipeline``: DICOM to submission against the method's own way, stage by stage."""

from __future__ import annotations

from pathlib import Path

import click

from rsna_lumbar.benchmarks.commands.shared import (
    bundle_options,
    output_options,
    whole_numbers,
    work_folder,
)
from rsna_lumbar.benchmarks.harness.command_line import command_line
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.entry_point import common_options


@click.command("pipeline", short_help="DICOM to submission against the method's own way.")
@bundle_options
@click.option(
    "--studies", default="1,20", show_default=True, callback=whole_numbers, help="In one run."
)
@click.option(
    "--method-studies",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Largest number that the method's own way is run on; 0 leaves it out.",
)
@click.option(
    "--stress-studies",
    type=click.IntRange(2),
    help="One more run of ours over so many, such as 200: do time and memory stay in proportion?",
)
@click.option("--workers", type=click.IntRange(1), help="Decoding processes. Default: as rsna-run.")
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
    written after each of these blocks, so that an interrupted run leaves its figures so far.
    """
    from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

    prepare_third_party("bench")
    from rsna_lumbar.benchmarks.harness.report import as_table, write_outputs
    from rsna_lumbar.benchmarks.pipeline.bench import PipelineOptions, run_pipeline
    from rsna_lumbar.benchmarks.pipeline.plots import draw_pipeline
    from rsna_lumbar.benchmarks.pipeline.report import make_results

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
            write_outputs(results, json_path, csv_path, plot_path, draw_pipeline)
    click.echo(as_table(results))
