"""The number of cores this process may really use: affinity and quota of its control groups.

A container limited to two processors still sees every core of its host. Libraries that start one
thread per visible core are slowed down by their own threads, so every count here starts from
:func:`usable_cores`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

NO_LIMIT = float("inf")


def usable_cores() -> int:
    """Number of cores that this process may keep busy, at least 1.

    A quota of two and a half cores counts as two: a third thread would be stopped half of the time
    while the other two wait for it.
    """
    return max(1, int(min(_affinity(), quota_in_cores(Path("/")))))


def quota_in_cores(root: Path) -> float:
    """The smallest processor quota of the process's control groups (Linux); infinity if none.

    Supports both versions: ``cpu.max`` of the group and of every group above it, and
    ``cpu.cfs_quota_us`` (https://docs.kernel.org/admin-guide/cgroup-v2.html, and .../cgroup-v1/).
    ``root`` is the folder that contains ``proc`` and ``sys``.
    """
    return min((_quota(folder) for folder in _control_groups(root)), default=NO_LIMIT)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _control_groups(root: Path) -> Iterator[Path]:
    """Folders of the process's control groups, each followed by those above it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        group = top / path.lstrip("/")
        yield group
        yield from (above for above in group.parents if above.is_relative_to(top))


def _quota(folder: Path) -> float:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if int(quota) > 0 else NO_LIMIT
    except (OSError, ValueError, ZeroDivisionError):  # missing, "max", or unreadable
        return NO_LIMIT
