"""Ways in which the process of a native builder ends, or does not; what tests wait for."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

DEADLINE_S = 300.0  # for what takes a second on a machine with nothing else to do


def segfault() -> None:
    ctypes.string_at(0)


def hang() -> None:
    """In native code that holds the interpreter, and wants no signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(int(2 * DEADLINE_S))


def exit_without_a_word() -> None:
    os._exit(7)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


ENDS: dict[str, Callable[[], None]] = {
    "segfault": segfault,
    "abort": os.abort,
    "kill": kill,
    "exit": exit_without_a_word,
    "hang": hang,
    "stay": hang,  # for tests that end it
}


def end(way: str) -> None:
    """End this process, or hang, without a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ENDS[way]()


def wait_for(sign: Callable[[], bool]) -> None:
    """Until a sign is there.

    Raises:
        TimeoutError: it never came.
    """
    until = time.monotonic() + DEADLINE_S
    while not sign():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {DEADLINE_S:g} s in vain")
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has asked how has ended, too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def write_whole(path: Path, text: str) -> None:
    """A sign that is never there by half."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
