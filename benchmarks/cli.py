"""``rsna-bench``: our graph in every precision against PyTorch and ultralytics, interleaved."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from rsna_lumbar.runtime.command_line import common_options, entry_point
from rsna_lumbar.runtime.errors import UsageError
from rsna_lumbar.runtime.labels import GROUP_BY_NAME

MEDIAN_AXIAL_SLICES = 29  # the challenge's axial series: 5th, 50th, 95th percentile 17, 29, 55
LARGEST_STRIDE_PX = 32


def _sizes(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter("give whole numbers with commas between: 384,640") from None
    if any(size < LARGEST_STRIDE_PX or size % LARGEST_STRIDE_PX for size in sizes):
        raise click.BadParameter(f"every size must be a multiple of {LARGEST_STRIDE_PX}")
    return sizes


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Checkpoint of a detector.  Without it: random weights with realistic activations.",
)
@click.option("--sizes", default="384,640", show_default=True, callback=_sizes, help="Pixels.")
@click.option(
    "--scale",
    type=click.Choice(("n", "s", "m", "l", "x")),
    default="n",
    show_default=True,
    help="YOLOv8 scale of the random weights.",
)
@click.option(
    "--group",
    type=click.Choice(tuple(GROUP_BY_NAME)),
    default="subarticular",
    show_default=True,
    help="Whose classes the random weights have.",
)
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option(
    "--series-slices", type=click.IntRange(1), default=MEDIAN_AXIAL_SLICES, show_default=True
)
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Of every contender; all cores if not set.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Also write a CSV file.")
@common_options
def cli(
    weights: Path | None,
    sizes: tuple[int, ...],
    scale: str,
    group: str,
    batch_size: int,
    series_slices: int,
    rounds: int,
    threads: int | None,
    csv_path: Path | None,
) -> None:
    """Time our score graph against what one would run otherwise, on the CPU.

    The same weights and the same slices go, in turns, through PyTorch, ultralytics predict,
    ultralytics' own ONNX export, and our score graph in ONNX Runtime (fp32, int8) and OpenVINO
    (fp32, bf16, int8). What cannot be had here is named below the table, with the reason. int8 is
    calibrated on textured slices, also for --weights: that is enough to time it. The table goes to
    standard output.
    """
    if series_slices < batch_size:
        raise UsageError("--series-slices must be at least --batch-size")
    from rsna_lumbar.runtime.third_party import prepare_third_party

    prepare_third_party("bench")
    from rsna_lumbar.benchmarks.run import BenchOptions, run_benchmark

    options = BenchOptions(
        weights=weights,
        sizes_px=sizes,
        scale=scale,
        group=GROUP_BY_NAME[group],
        batch_size=batch_size,
        series_slices=series_slices,
        rounds=rounds,
        threads=threads,
    )
    with tempfile.TemporaryDirectory(prefix="rsna-bench-") as folder:
        table, csv_text = run_benchmark(options, Path(folder))
    if csv_path:
        from rsna_lumbar.runtime.files import write_atomically

        write_atomically(csv_path, csv_text)
    click.echo(table)


main = entry_point(cli, "rsna-bench")
