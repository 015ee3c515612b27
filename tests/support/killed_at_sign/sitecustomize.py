"""On PYTHONPATH: a command that kills its whole process group once a sign is there.

KILL_SIGN is a pattern of paths, KILL_COMMAND a name or subcommand. The next file that a process of
that command opens, renames or removes, or the next folder that it makes or removes, is where the
kill comes: no watcher can be too late.
"""

from __future__ import annotations

import glob
import os
import signal
import sys

SIGN = os.environ.get("KILL_SIGN")
COMMAND = os.environ.get("KILL_COMMAND")
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def _kill_at_sign(event: str, _: object) -> None:
    if event in CHANGES and SIGN and COMMAND in _words() and glob.glob(SIGN):
        os.killpg(0, signal.SIGKILL)


def _words() -> list[str]:
    """The first words of the command that this process runs."""
    return [word.rpartition("/")[2] for word in getattr(sys, "argv", [])[:2]]


if SIGN:
    sys.addaudithook(_kill_at_sign)
