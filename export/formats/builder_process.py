"""A separate process for a builder: if it crashes, hangs or is killed, only one build is lost.

    this process                          the builder's
    graph            ---- pipe ---->      work(graph, voice)
    lines, signs of life, result          voice.say, voice.live, what work returns
                     <--- pipe -----

Nothing passes through files, so none is left whichever process is killed. Everything that the
library prints, even while it crashes, goes to the log. The builder's process ends with this one.
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
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from rsna_lumbar.export.formats import Built, Report
from rsna_lumbar.runtime.core.errors import ExportError, LumbarError, UsageError
from rsna_lumbar.runtime.system.processes import end_with_parent, in_main_thread, interrupts_ignored

# A builder reports each layer and each kernel that it has timed; the longest silence was seconds.
SILENCE_S = 30 * 60.0
LIVE_S = 1.0  # between two signs of life
TICK_S = 0.5  # Windows handles Ctrl-C only between two waits
END_S = 10.0  # for a process that was killed, or whose pipe has ended, to end

# A line of progress; None, a sign of life; an error of the work; its result; or EOFError, made
# here where the pipe has ended.
_Message = str | None | LumbarError | Built | EOFError
_Pipe = connection.Connection
_SPAWN = multiprocessing.get_context("spawn")


class Voice:
    """What a builder says while it works; from any thread."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        """send: takes the messages."""
        self._send = send
        self._lock = Lock()
        self._last = time.monotonic()

    def say(self, message: _Message) -> None:
        """Send a line of progress, or any other message, whole."""
        with self._lock:
            self._last = time.monotonic()
            self._send(message)

    def live(self) -> None:
        """Send a sign of life; may be called often."""
        if time.monotonic() - self._last >= LIVE_S:
            self.say(None)


Work = Callable[[bytes, Voice], Built]


def build_apart(work: Work, graph: bytes, *, name: str, log: Path | None, report: Report) -> Built:
    """Run a builder in a process of its own, which has ended when this returns or raises.

    Args:
        work: what the process runs; must be picklable.
        name: what is built, for errors.
        log: what the process prints is appended here; None discards it.
        report: takes its lines, in this thread.

    Raises:
        LumbarError: as ``work`` raised it.
        ExportError: the process crashed, was killed, ended without a result, was silent for
            ``SILENCE_S``, could not be started, or met an unexpected error.
        UsageError: the log cannot be written.
    """
    ours, theirs = _SPAWN.Pipe()
    arguments = (theirs, work, log, in_main_thread())
    process = _SPAWN.Process(target=_work, args=arguments, daemon=True, name=name)
    heard: queue.SimpleQueue[_Message] = queue.SimpleQueue()
    talk = Thread(target=_talk, args=(ours, graph, heard), daemon=True)
    try:
        try:
            with theirs, interrupts_ignored():
                process.start()
        except OSError as error:  # no memory, no more processes
            raise ExportError(f"{name}: no builder can be started ({error.strerror})") from error
        talk.start()
        return _result(process, heard, report)
    finally:
        if process.ident is not None:
            process.kill()
            process.join(END_S)
        if talk.ident is not None:
            talk.join(END_S)  # its pipe has ended
        ours.close()


def _result(process: Any, heard: queue.SimpleQueue[_Message], report: Report) -> Built:
    """Report what a builder says until its result comes."""
    name, place = process.name, ""
    while True:
        try:
            message = _next(heard)
        except queue.Empty:
            raise ExportError(
                f"{name}: the builder hangs, no sign of life for {SILENCE_S:g} s{place}"
            ) from None
        match message:
            case Built():
                return message
            case LumbarError():
                raise message
            case EOFError():
                raise ExportError(f"{name}: the builder {_end_of(process, place)}")
            case str():
                place = f" in {message.removeprefix(f'{name}: ')!r}"
                report(message)


def _next(heard: queue.SimpleQueue[_Message]) -> _Message:
    """The next message. Time during which this process was stopped does not count as silence.

    Raises:
        queue.Empty: there was none for ``SILENCE_S``.
    """
    for _ in range(math.ceil(SILENCE_S / TICK_S)):
        with suppress(queue.Empty):
            return heard.get(timeout=TICK_S)
    raise queue.Empty


def _end_of(process: Any, place: str) -> str:
    """How a process whose pipe has ended came to its end."""
    process.join(END_S)
    code = process.exitcode
    if code is None:
        return f"broke off{place}"
    if code >= 0:
        return f"ended with exit code {code} and no result{place}"
    if -code == getattr(signal, "SIGKILL", None):
        return f"was killed (SIGKILL){place}; the system does so if memory is short"
    try:
        return f"was ended by {signal.Signals(-code).name}{place}"
    except ValueError:  # a real-time signal
        return f"was ended by signal {-code}{place}"


def _talk(pipe: _Pipe[Any, Any], graph: bytes, heard: queue.SimpleQueue[_Message]) -> None:
    """Send the graph and listen, in a thread: a process may stop in the middle of a message."""
    try:
        pipe.send_bytes(graph)
        while True:
            heard.put(pipe.recv())
    except Exception:  # the pipe ended, or a message is cut off or of another version of us
        heard.put(EOFError())


# In the builder's process


def _work(
    pipe: _Pipe[Any, Any], work: Work, log: Path | None, started_by_main_thread: bool
) -> None:
    end_with_parent(started_by_main_thread=started_by_main_thread)
    voice = Voice(pipe.send)
    graph = pipe.recv_bytes()
    try:
        _print_to(log)
        voice.say(work(graph, voice))
    except LumbarError as error:
        voice.say(error)
    except Exception as error:
        traceback.print_exc()  # into the log
        text = " ".join(str(error).split())
        voice.say(ExportError(f"unexpected {type(error).__name__}: {text}"))


def _print_to(log: Path | None) -> None:
    """Redirect everything that this process prints, native code included, to the log."""
    try:
        place = os.open(log or os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        raise UsageError(f"{log} cannot be written ({error.strerror})") from error
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        os.dup2(place, number)
    os.close(place)
