"""Work for other processes: they cannot import a test module, but they can import this one."""

from __future__ import annotations

import os
import time

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.train.fitting.parallel import Report


def count(item: str, report: Report) -> None:
    """Report as often as the item is long."""
    if item == "bad":
        raise DataError("bad item")
    for step in range(len(item)):
        report(item, step + 1)


def wait_long(_: str, report: Report) -> None:
    """Report the number of this process and stay."""
    report("worker", os.getpid())
    time.sleep(1000)
