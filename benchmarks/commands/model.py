"""``rsna-bench model``."""

from __future__ import annotations

from pathlib import Path

import click

from rsna_lumbar.benchmarks.commands.shared import (
    SCALE_HELP,
    SCALES,
    output_options,
    whole_numbers,
    work_folder,
)
from rsna_lumbar.benchmarks.harness.command_line import command_line
from rsna_lumbar.runtime.core.labels import GROUP_BY_NAME
from rsna_lumbar.runtime.system.entry_point import common_options

MEDIAN_AXIAL_SLICES = 29  # the challenge's axial series: 5th, 50th, 95th percentile 17, 29, 55
LARGEST_STRIDE_PX = 32
ROUNDS, BLOCK_S = 10, 300.0


def _sizes(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    sizes = whole_numbers(context, parameter, text)
    if any(size % LARGEST_STRIDE_PX for size in sizes):
        raise click.BadParameter(f"every size must be a multiple of {LARGEST_STRIDE_PX}")
    return sizes


@click.command("model", short_help="Score graphs against PyTorch, ultralytics and the peak.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Checkpoint of a detector. Default: random weights with realistic activations.",
)
@click.option("--sizes", default="384,640", show_default=True, callback=_sizes, help="Pixels.")
@click.option(
    "--batch-sizes", default="1,16", show_default=True, callback=whole_numbers, help="Slices."
)
@click.option(
    "--contenders",
    help="Only these keys, comma-separated, and always pytorch. Default: all.",
)
@click.option("--scale", type=SCALES, default="n", show_default=True, help=SCALE_HELP)
@click.option(
    "--group",
    type=click.Choice(tuple(GROUP_BY_NAME)),
    default="subarticular",
    show_default=True,
    help="The random weights have the classes of this group.",
)
@click.option(
    "--series-slices", type=click.IntRange(1), default=MEDIAN_AXIAL_SLICES, show_default=True
)
@click.option(
    "--block-seconds",
    type=click.FloatRange(0, min_open=True),
    default=BLOCK_S,
    show_default=True,
    help="If a size and batch would take longer, it gets fewer rounds, at least 3.",
)
@output_options(rounds=ROUNDS)
@common_options
@click.pass_context
def cli(
    context: click.Context,
    weights: Path | None,
    sizes: tuple[int, ...],
    batch_sizes: tuple[int, ...],
    contenders: str | None,
    scale: str,
    group: str,
    series_slices: int,
    block_seconds: float,
    rounds: int,
    threads: int | None,
    json_path: Path | None,
    csv_path: Path | None,
    plot_path: Path | None,
) -> None:
    """Time the score graph against the usual ways of running the network, on the CPU.

    All contenders get the same weights and slices, in turns: PyTorch (as saved, fused, channels
    last, compiled), ultralytics predict, ultralytics' own ONNX and OpenVINO exports, and the score
    graph in ONNX Runtime (fp32, int8) and OpenVINO (fp32, bf16, int8). Matrix products in the same
    rounds show what the machine can do at most. Contenders that are not available here are named
    below the table, with the reason. int8 is calibrated on textured slices, even with --weights;
    that is enough to time it. The table goes to standard output.
    """
    from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

    prepare_third_party("bench")
    from rsna_lumbar.benchmarks.harness.report import as_table, write_outputs
    from rsna_lumbar.benchmarks.model.contenders import chosen_contenders
    from rsna_lumbar.benchmarks.model.plots import draw_model
    from rsna_lumbar.benchmarks.model.run import ModelOptions, run_benchmark

    options = ModelOptions(
        weights=weights,
        sizes_px=sizes,
        batch_sizes=batch_sizes,
        contenders=chosen_contenders(contenders),
        scale=scale,
        group=GROUP_BY_NAME[group],
        series_slices=series_slices,
        rounds=rounds,
        block_s=block_seconds,
        threads=threads,
        command=command_line(context),
    )
    with work_folder(None) as folder:
        results = run_benchmark(options, folder)
    click.echo(as_table(results))
    write_outputs(results, json_path, csv_path, plot_path, draw_model)
