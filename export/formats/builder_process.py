"""A builder in a process of its own: its crash, hang or end costs one build, never the export.

    this process                          the builder's
    graph            ---- pipe ---->      work(graph, voice)
    lines, signs of life, result          voice.say, voice.live, what work returns
                     <--- pipe -----

Nothing passes through files, so none is left whichever process is killed. What the library prints,
also while it crashes, goes to the log. The builder's process ends with this one.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from rsna_lumbar.export.formats import Built, Report
from rsna_lumbar.runtime.core.errors import ExportError, LumbarError, UsageError
from rsna_lumbar.runtime.system.processes import end_with_parent, in_main_thread, interrupts_ignored

# A builder says each layer and each kernel that it has timed; the longest silence seen is seconds.
SILENCE_S = 30 * 60.0
LIVE_S = 1.0  # between two signs of life
TICK_S = 0.5  # Windows sees Ctrl-C between two waits only
END_S = 10.0  # for a process that was killed, or whose pipe has ended, to be gone


@dataclass(frozen=True, slots=True)
class Line:
    """A line of progress."""

    text: str


@dataclass(frozen=True, slots=True)
class _Live:
    """A sign of life, with nothing to say."""


@dataclass(frozen=True, slots=True)
class _Failed:
    error: LumbarError


@dataclass(frozen=True, slots=True)
class _Lost:
    """The pipe has ended."""


_Message = Line | _Live | _Failed | Built | _Lost
_SPAWN = multiprocessing.get_context("spawn")


class Voice:
    """What a builder says while it works; from any thread."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        """send: takes the messages."""
        self._send = send
        self._lock = Lock()
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """A line of progress."""
        self.put(Line(text))

    def live(self) -> None:
        """It goes on; may be called often."""
        if time.monotonic() - self._last >= LIVE_S:
            self.put(_Live())

    def put(self, message: _Message) -> None:
        """Any message, whole."""
        with self._lock:
            self._last = time.monotonic()
            self._send(message)


Work = Callable[[bytes, Voice], Built]


def build_apart(work: Work, graph: bytes, *, name: str, log: Path | None, report: Report) -> Built:
    """Have a builder's process do the work.

    Args:
        work: to be pickled; it runs there.
        graph: handed to it.
        name: of what is built, for errors.
        log: what the process prints is appended here; None forgets it.
        report: takes its lines, in this thread.

    Raises:
        LumbarError: as ``work`` raised it.
        ExportError: the process crashed, was killed, ended without a result, was silent for
            ``SILENCE_S``, could not be started, or met an error that is none of ours.
        UsageError: the log cannot be written.
    """
    _require_writable(log)
    with _started(work, graph, name, log) as builder:
        while True:
            message = builder.hear()
            match message:
                case Built():
                    return message
                case _Failed(error):
                    raise error
                case _Lost():
                    raise ExportError(f"{name}: the builder {builder.end_of_it()}")
                case Line(text):
                    builder.at = text
                    report(text)


@contextmanager
def _started(work: Work, graph: bytes, name: str, log: Path | None) -> Iterator[_Builder]:
    """A builder at work; its process is gone afterwards, whatever happens here."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(
        target=_work, args=(theirs, work, log, in_main_thread()), daemon=True, name=name
    )
    builder = _Builder(name, process)
    talk = Thread(target=_talk, args=(ours, graph, builder.heard), daemon=True)
    try:
        with theirs:
            _start(process, name)
        talk.start()
        yield builder
    finally:
        if process.ident is not None:
            process.kill()
            process.join(END_S)
        if talk.ident is not None:
            talk.join(END_S)  # its pipe has ended
        ours.close()


def _start(process: Any, name: str) -> None:
    try:
        with interrupts_ignored():
            process.start()
    except OSError as error:  # no memory, no more processes
        raise ExportError(f"{name}: no builder can be started ({error.strerror})") from error


class _Builder:
    """This process's side of it."""

    def __init__(self, name: str, process: Any) -> None:
        self.heard: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self.at = ""  # the line of progress that came last
        self._name = name
        self._process = process

    def hear(self) -> _Message:
        """Its next message. Time in which this process was stopped is no silence.

        Raises:
            ExportError: it is silent.
        """
        for _ in range(math.ceil(SILENCE_S / TICK_S)):
            with suppress(queue.Empty):
                return self.heard.get(timeout=TICK_S)
        raise ExportError(
            f"{self._name}: the builder hangs, no sign of life for {SILENCE_S:g} s{self._where}"
        )

    def end_of_it(self) -> str:
        """How a process whose pipe has ended came to its end."""
        self._process.join(END_S)
        code = self._process.exitcode
        if code is None:
            return f"broke off{self._where}"
        if code >= 0:
            return f"ended with exit code {code} and no result{self._where}"
        if -code == getattr(signal, "SIGKILL", None):
            return f"was killed (SIGKILL){self._where}; the system does so where memory is short"
        return f"was ended by {_signal_name(-code)}{self._where}"

    @property
    def _where(self) -> str:
        return f" in {self.at.removeprefix(f'{self._name}: ')!r}" if self.at else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of those for real-time use
        return f"signal {number}"


def _talk(
    pipe: connection.Connection[Any, Any], graph: bytes, heard: queue.SimpleQueue[_Message]
) -> None:
    """Hand the graph over and listen, apart from the thread that counts the silence.

    A process may stop in the middle of a message, for ever.
    """
    try:
        pipe.send_bytes(graph)
        while True:
            heard.put(pipe.recv())
    except Exception:  # the pipe ended, or a message is cut off or made by another version of us
        heard.put(_Lost())


def _require_writable(log: Path | None) -> None:
    if log is not None:
        try:
            log.open("ab").close()
        except OSError as error:
            raise UsageError(f"{log} cannot be written ({error.strerror})") from error


# In the builder's process


def _work(
    pipe: connection.Connection[Any, Any],
    work: Work,
    log: Path | None,
    started_by_main_thread: bool,
) -> None:
    end_with_parent(started_by_main_thread=started_by_main_thread)
    _print_to(log)
    voice = Voice(pipe.send)
    graph = pipe.recv_bytes()
    try:
        voice.put(work(graph, voice))
    except LumbarError as error:
        voice.put(_Failed(error))
    except Exception as error:
        traceback.print_exc()  # into the log
        text = " ".join(str(error).split())
        voice.put(_Failed(ExportError(f"unexpected {type(error).__name__}: {text}")))


def _print_to(log: Path | None) -> None:
    """Have what this process prints in the log, also what native code prints."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    place = os.open(log or os.devnull, flags)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in (1, 2):
        os.dup2(place, number)
    os.close(place)
