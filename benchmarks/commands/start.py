"""``rsna-bench start``: how long --help, an import and one study take from cold."""

from __future__ import annotations

from pathlib import Path

import click

from rsna_lumbar.benchmarks.commands.shared import bundle_options, output_options, work_folder
from rsna_lumbar.benchmarks.harness.command_line import command_line
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.entry_point import common_options


@click.command("start", short_help="Fresh processes: --help, an import and one study.")
@bundle_options
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

    The overhead is the time of one study without its pure inference. One row has OpenVINO's
    compiled models in the cache, and one has to make them.
    """
    from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

    prepare_third_party("bench")
    from rsna_lumbar.benchmarks.harness.fresh_runs import FreshOptions
    from rsna_lumbar.benchmarks.harness.report import as_table, write_outputs
    from rsna_lumbar.benchmarks.pipeline.plots import draw_start
    from rsna_lumbar.benchmarks.pipeline.start_bench import run_start
    from rsna_lumbar.benchmarks.pipeline.start_report import make_results

    options = FreshOptions(
        variants=variants,
        scale=scale,
        size_px=size_px,
        rounds=rounds,
        threads=threads or usable_cores(),
    )
    with work_folder(work) as folder:
        found = run_start(options, folder, report=lambda line: click.echo(line, err=True))
    results = make_results(options, found, command_line(context))
    write_outputs(results, json_path, csv_path, plot_path, draw_start)
    click.echo(as_table(results))
