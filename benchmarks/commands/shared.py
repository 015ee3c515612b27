"""Options that the subcommands of ``rsna-bench`` share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from rsna_lumbar.benchmarks.harness.variants import read_variants

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
VARIANTS = "onnxruntime:fp32,onnxruntime:int8,openvino:fp32,openvino:bf16,openvino:int8"
SCALES = click.Choice(("n", "s", "m", "l", "x"))
SCALE_HELP = "YOLOv8 scale of the random weights."


def output_options(*, rounds: int) -> Callable[[Decorated], Decorated]:
    """Add ``--rounds``, ``--threads``, ``--json``, ``--csv`` and ``--plot``.

    The function gets ``rounds``, ``threads`` (None: all cores), ``json_path``, ``csv_path`` and
    ``plot_path``.
    """
    return _adding(
        click.option("--rounds", type=click.IntRange(1), default=rounds, show_default=True),
        click.option("--threads", type=click.IntRange(1), help="Default: all usable cores."),
        click.option("--json", "json_path", type=FILE, help="Also write everything as JSON."),
        click.option("--csv", "csv_path", type=FILE, help="Also write a CSV file."),
        click.option("--plot", "plot_path", type=FILE, help="Also draw a PNG file."),
    )


def bundle_options(function: Decorated) -> Decorated:
    """Add ``--variants``, ``--scale``, ``--size`` and ``--work``: what a bundle is made of.

    The function gets ``variants``, ``scale``, ``size_px`` and ``work`` (None: a temporary folder).
    """
    return _adding(
        click.option(
            "--variants",
            default=VARIANTS,
            show_default=True,
            callback=lambda _context, _parameter, text: read_variants(text),
            help="Variants of rsna-run, comma-separated: BACKEND:PRECISION[:SLICES].",
        ),
        click.option("--scale", type=SCALES, default="s", show_default=True, help=SCALE_HELP),
        click.option("--size", "size_px", type=click.IntRange(32), default=384, show_default=True),
        click.option(
            "--work",
            type=FOLDER,
            help="Folder that keeps studies, checkpoints and bundle. Default: a temporary one.",
        ),
    )(function)


@contextmanager
def work_folder(work: Path | None) -> Iterator[Path]:
    """The folder to work in, made if it is missing; a temporary one for None."""
    if work:
        work.mkdir(parents=True, exist_ok=True)
        yield work.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="rsna-bench-") as folder:
        yield Path(folder).resolve()


def whole_numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    """Callback of an option: numbers from 1 on, in ascending order.

    Raises:
        click.BadParameter: they are not.
    """
    try:
        numbers = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise click.BadParameter("give whole numbers, comma-separated: 384,640") from None
    if numbers[0] < 1:
        raise click.BadParameter("every number must be at least 1")
    return numbers


def _adding(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    def add(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return add
