"""The command line for a report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource


def command_line(context: click.Context) -> str:
    """The command as it was typed, paths without the folders of this machine."""
    words = context.command_path.split()
    for parameter in context.command.params:
        name = parameter.name or ""
        typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed and parameter.expose_value:
            words += _words(parameter, context.params[name])
    return shlex.join(words)


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if isinstance(value, Path):
        text = value.name
    if not isinstance(parameter, click.Option):
        return [text]
    name = max(parameter.opts, key=len)
    return [name] if parameter.is_flag else [name, text]
