"""Work for other processes: they cannot import a test module, but they can import this one."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rsna_lumbar.runtime.core.errors import DataError


def touch(item: Path) -> None:
    """Leave a file."""
    if item.name == "bad":
        raise DataError("bad item")
    item.touch()


def wait_long(_: str) -> None:
    """Print the number of this process and stay."""
    print(os.getpid(), flush=True)
    time.sleep(1000)
