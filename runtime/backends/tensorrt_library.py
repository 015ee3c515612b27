"""The two TensorRT libraries (one Python API under two module names), and their logs.

Each library is imported when it is needed. A logger must derive from a class of the library, so
it is made after the import. If Python code that the library calls raises an exception (above all
a Ctrl-C), C++ prints it and loses it. Here it is kept, and raised when the library has returned.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Container
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from rsna_lumbar.runtime.core.errors import UsageError

SHOWN_MESSAGES = 3  # number of messages quoted in an error
KEPT_MESSAGES = 10_000
ERRORS = ("INTERNAL_ERROR", "ERROR")
TROUBLE = (*ERRORS, "WARNING")


MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}  # backend -> its module


@dataclass(frozen=True, slots=True)
class Message:
    """A line of the library's log."""

    severity: str  # INTERNAL_ERROR, ERROR, WARNING, INFO or VERBOSE
    text: str


def load_library(name: str) -> Any:
    """Import a TensorRT library.

    Raises:
        UsageError: the library is not installed, or its shared libraries do not load.
    """
    try:
        return import_module(MODULES[name])
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        raise UsageError(
            f"{name} cannot be loaded ({error}): pip install 'rsna-lumbar[{name}]'"
        ) from error


def require_installed(name: str) -> None:
    """Check that a library is installed, without loading it.

    Raises:
        UsageError: the library is not installed.
    """
    module = MODULES[name]
    loaded = sys.modules.get(module, False)
    if loaded is None or (loaded is False and find_spec(module) is None):
        raise UsageError(f"{name} is not installed: pip install 'rsna-lumbar[{name}]'")


def library_version(trt: Any) -> str:
    """Version of a loaded library as plans and manifests write it, such as ``1.7.1.116``."""
    return ".".join(trt.__version__.split(".")[:4])


class Log:
    """The newest messages of a library that have certain severities."""

    def __init__(self, trt: Any, severities: Container[str]) -> None:
        """Make a logger; it must outlive the library objects that use it."""
        self.messages: deque[Message] = deque(maxlen=KEPT_MESSAGES)
        self.failure: BaseException | None = None  # raised by our code in a library call
        self.logger = _make_logger(trt, self)
        self._severities = severities

    def take(self, message: Message) -> None:
        if message.severity in self._severities:
            self.messages.append(message)

    def trouble(self) -> str:
        """The first errors in one line; if there are none, the first warnings."""
        lines: dict[str, dict[str, None]] = {severity: {} for severity in TROUBLE}
        for message in self.messages:
            if message.severity in lines:
                lines[message.severity][" ".join(message.text.split())] = None
        errors = [text for severity in ERRORS for text in lines[severity]]
        found = errors or list(lines["WARNING"])
        return "; ".join(found[:SHOWN_MESSAGES]) or "no reason given"

    def raise_failure(self) -> None:
        """Raise the exception that was kept, if any."""
        if self.failure is not None:
            raise self.failure


def _make_logger(trt: Any, log: Log) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            try:
                log.take(Message(severity.name, text))
            except BaseException as error:
                log.failure = error

    return Logger()
