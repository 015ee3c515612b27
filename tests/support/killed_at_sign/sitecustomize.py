"""On PYTHONPATH: a command that kills its whole process group once a sign is there.

KILL_SIGN is a pattern of paths. The next file that any Python process of the group opens, renames
or removes, or the next folder that it makes, is where the kill comes: no watcher can be too late.
"""

from __future__ import annotations

import glob
import os
import signal
import sys

SIGN = os.environ.get("KILL_SIGN")
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def _kill_at_sign(event: str, _: object) -> None:
    if event in CHANGES and SIGN and glob.glob(SIGN):
        os.killpg(0, signal.SIGKILL)


if SIGN:
    sys.addaudithook(_kill_at_sign)
