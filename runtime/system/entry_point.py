"""Shared by the four commands: ``--version``, ``--debug``, one-line errors and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from rsna_lumbar.runtime.core.errors import LumbarError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DISTRIBUTION = "rsna-lumbar"
INTERRUPTED = 130  # 128 + SIGINT, as in shells


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"{context.find_root().info_name} {metadata.version(DISTRIBUTION)}")
        context.exit()


def common_options(function: Decorated) -> Decorated:
    """Add ``--version`` and ``--debug`` to a command, group or subcommand."""
    version = click.option(
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Print the version and exit.",
    )
    debug = click.option(  # entry_point checks for it itself
        "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
    )
    return version(debug(function))


def typed_parameters(context: click.Context) -> list[click.Parameter]:
    """Arguments and options that are on the command line, but for ``--version`` and ``--debug``."""
    typed = ParameterSource.COMMANDLINE
    return [
        one
        for one in context.command.params
        if one.expose_value and context.get_parameter_source(one.name or "") is typed
    ]


def entry_point(
    command: click.Command, name: str, *, quote_errors: bool = True
) -> Callable[..., None]:
    """Make the function of a console script.

    The function ends the process: with the command's return value if that is an int, otherwise
    0; with one line on standard error and 1 or 2 after an error; with 130 if interrupted.

    ``quote_errors`` prints the text of unexpected errors; False if it may quote patient data.
    """

    def main(arguments: Sequence[str] | None = None, *, given: object = None) -> None:
        """``given``: what the command takes from its caller besides its options."""
        words = list(sys.argv[1:] if arguments is None else arguments)
        _open_closed_streams()
        signal.signal(signal.SIGTERM, _terminate)
        try:
            result = command.main(words, prog_name=name, standalone_mode=False, obj=given)
        except click.ClickException as error:
            with suppress(OSError):
                error.show()
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            echo("Interrupted.", err=True)
            sys.exit(INTERRUPTED)
        except Exception as error:
            if "--debug" in words:
                echo(_trace(error, quote_errors), err=True)
            echo(_line(error, quote_errors), err=True)
            sys.exit(error.exit_code if isinstance(error, LumbarError) else 1)
        sys.exit(result if isinstance(result, int) else 0)

    return main


def echo(text: str, *, err: bool = False) -> None:
    """Print; if the output is closed, discard this and later text and continue."""
    try:
        click.echo(text, err=err)
    except OSError:  # a closed pipe, or a full disk
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (sys.stderr if err else sys.stdout).fileno())
        os.close(nowhere)


def _open_closed_streams() -> None:
    """Open closed standard streams, so that no other file gets their number and their output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            # otherwise the number would be free in decoding processes
            os.set_inheritable(nowhere, True)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _terminate(number: int, _: object) -> None:
    """End by an exception, so that files written aside are removed."""
    sys.exit(128 + number)


def _trace(error: BaseException, quote_errors: bool) -> str:
    """The traceback; without quotes only types and positions, including those of causes."""
    if quote_errors:
        return "".join(traceback.format_exception(error)).rstrip()
    before = error.__cause__ or error.__context__
    lines = [_trace(before, quote_errors)] if before else []
    places = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    return "\n".join([*lines, "Traceback (most recent call last):", places, type(error).__name__])


def _line(error: Exception, quote_errors: bool) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, LumbarError):
        return f"Error: {text}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
        return f"Error: {error.strerror}: make room where results are written, or in {_temporary()}"
    if isinstance(error, OSError):
        return f"Error: {error.filename or 'system'}: {error.strerror or text}"
    quoted = f": {text}" if quote_errors else ""
    return f"Error: unexpected {type(error).__name__}{quoted} (--debug shows where)"


def _temporary() -> str:
    """The folder of files whose errors name no file."""
    import tempfile

    try:
        return f"{tempfile.gettempdir()} (another with TMPDIR)"
    except OSError:
        return "a folder for temporary files (TMPDIR)"
