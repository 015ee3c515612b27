"""The command line for a report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from rsna_lumbar.runtime.system.entry_point import typed_parameters


def command_line(context: click.Context) -> str:
    """The command as it was typed, paths without the folders of this machine."""
    words = context.command_path.split()
    for parameter in typed_parameters(context):
        words += _words(parameter, context.params[parameter.name or ""])
    return shlex.join(words)


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if isinstance(value, Path):
        text = value.name
    if not isinstance(parameter, click.Option):
        return [text]
    name = max(parameter.opts, key=len)
    return [name] if parameter.is_flag else [name, text]
