"""Ways in which a process ends, or does not; and waiting for signs of it.

Nothing here is a guess at how long something takes: a deadline is for what never comes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    import resource

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


def kill_tree(process: subprocess.Popen[Any]) -> list[int]:
    """Kill a process; those that it had started, which are to end with it.

    It is stopped first, so that it starts no others meanwhile.
    """
    process.send_signal(signal.SIGSTOP)
    try:
        children = [one.pid for one in psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:  # it had come to its end
        children = []
    process.kill()
    process.wait()
    return children


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
