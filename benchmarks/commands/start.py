"""``rsna-bench start``: how long --help, an import and one study take from cold."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path

import click

from rsna_lumbar.benchmarks.commands.pipeline import VARIANTS, variants_option
from rsna_lumbar.benchmarks.commands.shared import command_line, output_options
from rsna_lumbar.benchmarks.variants import Variant
from rsna_lumbar.runtime.command_line import common_options
from rsna_lumbar.runtime.cores import usable_cores


@click.command("start")
@click.option(
    "--variants",
    default=VARIANTS,
    show_default=True,
    callback=variants_option,
    help="BACKEND:PRECISION[:SLICES] of ours, with commas between.",
)
@click.option(
    "--scale",
    type=click.Choice(("n", "s", "m", "l", "x")),
    default="s",
    show_default=True,
    help="YOLOv8 scale of the random weights.",
)
@click.option("--size", "size_px", type=click.IntRange(32), default=384, show_default=True)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to keep studies, checkpoints and bundle in; temporary if not set.",
)
@output_options(rounds=20)
@common_options
@click.pass_context
def cli(
    context: click.Context,
    variants: tuple[Variant, ...],
    scale: str,
    size_px: int,
    work: Path | None,
    rounds: int,
    threads: int | None,
    json_path: Path | None,
    csv_path: Path | None,
    plot_path: Path | None,
) -> None:
    """Time fresh processes: Python alone, imports, --help, the demo, and one median study.

    What one study takes beside its pure inference is the overhead. OpenVINO's compiled models are
    there already in one row and have to be made in the other.
    """
    from rsna_lumbar.runtime.third_party import prepare_third_party

    prepare_third_party("bench")
    from rsna_lumbar.benchmarks.report import as_table, write_outputs
    from rsna_lumbar.benchmarks.start_bench import StartOptions, run_start
    from rsna_lumbar.benchmarks.start_report import make_results

    options = StartOptions(
        variants=variants,
        scale=scale,
        size_px=size_px,
        rounds=rounds,
        threads=threads or usable_cores(),
    )
    if work:
        work.mkdir(parents=True, exist_ok=True)
    opened = nullcontext(str(work)) if work else tempfile.TemporaryDirectory(prefix="rsna-bench-")
    with opened as folder:
        found = run_start(
            options, Path(folder).resolve(), report=lambda line: click.echo(line, err=True)
        )
    results = make_results(options, found, command_line(context))
    write_outputs(results, json_path=json_path, csv_path=csv_path)
    if plot_path:
        from rsna_lumbar.benchmarks.start_plots import draw_start

        draw_start(results, plot_path)
    click.echo(as_table(results))
