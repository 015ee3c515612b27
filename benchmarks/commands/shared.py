"""What the parts of ``rsna-bench`` share: common options, and the command line for a report."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rsna_lumbar.benchmarks.harness.variants import Variant, read_variants

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
VARIANTS = "onnxruntime:fp32,onnxruntime:int8,openvino:fp32,openvino:bf16,openvino:int8"


def output_options(*, rounds: int) -> Callable[[Decorated], Decorated]:
    """Add ``--rounds``, ``--threads``, ``--json``, ``--csv`` and ``--plot``.

    The function gets ``rounds``, ``threads`` (None: all cores), ``json_path``, ``csv_path`` and
    ``plot_path``.
    """
    return _adding(
        click.option("--rounds", type=click.IntRange(1), default=rounds, show_default=True),
        click.option("--threads", type=click.IntRange(1), help="All usable cores if not set."),
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
            callback=_variants,
            help="BACKEND:PRECISION[:SLICES] of ours, with commas between.",
        ),
        click.option(
            "--scale",
            type=click.Choice(("n", "s", "m", "l", "x")),
            default="s",
            show_default=True,
            help="YOLOv8 scale of the random weights.",
        ),
        click.option("--size", "size_px", type=click.IntRange(32), default=384, show_default=True),
        click.option(
            "--work",
            type=FOLDER,
            help="Folder to keep studies, checkpoints and bundle in; temporary if not set.",
        ),
    )(function)


@contextmanager
def work_folder(work: Path | None) -> Iterator[Path]:
    """The folder to work in, made where it is not there; a temporary one for None."""
    if work:
        work.mkdir(parents=True, exist_ok=True)
        yield work.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="rsna-bench-") as folder:
        yield Path(folder).resolve()


def _variants(_: click.Context, __: click.Parameter, text: str) -> tuple[Variant, ...]:
    return read_variants(text)


def _adding(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    def add(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def command_line(context: click.Context) -> str:
    """The command as it was typed, paths without the folders of this machine."""
    words = ["rsna-bench", context.command.name or ""]
    for parameter in context.command.params:
        typed = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if typed and parameter.expose_value:
            words += _words(parameter, context.params[parameter.name or ""])
    return shlex.join(words)


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    if not isinstance(parameter, click.Option):
        return [_text(value)]
    name = max(parameter.opts, key=len)
    if parameter.is_flag:
        return [name] if value else list(parameter.secondary_opts[:1])
    values = value if parameter.multiple else (value,)
    return [word for one in values for word in (name, _text(one))]


def _text(value: Any) -> str:
    if isinstance(value, Path):
        return value.name
    if isinstance(value, tuple | list):
        return ",".join(map(_text, value))
    return str(value)
