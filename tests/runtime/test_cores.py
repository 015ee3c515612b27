"""Cores under a quota, from made-up control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rsna_lumbar.runtime.system import cores
from rsna_lumbar.runtime.system.cores import NO_LIMIT, quota_in_cores, usable_cores


def made(root: Path, membership: str, **files: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_no_control_groups_are_no_limit(tmp_path: Path) -> None:
    assert quota_in_cores(tmp_path) == NO_LIMIT
    assert quota_in_cores(made(tmp_path, "0::/\n")) == NO_LIMIT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250000 100000\n", 2.5),
        ("max 100000\n", NO_LIMIT),
        ("nonsense\n", NO_LIMIT),
        ("", NO_LIMIT),
    ],
)
def test_version_2(tmp_path: Path, text: str, expected: float) -> None:
    assert quota_in_cores(made(tmp_path, "0::/\n", cpu_max=text)) == expected


def test_the_smallest_quota_of_all_groups_above_counts(tmp_path: Path) -> None:
    root = made(
        tmp_path,
        "0::/pod/job\n",
        cpu_max="max 100000",
        pod__cpu_max="150000 100000",
        pod__job__cpu_max="800000 100000",
    )
    assert quota_in_cores(root) == 1.5


def test_version_1(tmp_path: Path) -> None:
    folder = "cpu,cpuacct__job"
    root = made(
        tmp_path,
        "3:memory:/job\n2:cpu,cpuacct:/job\n",
        **{f"{folder}__cpu_cfs_quota_us": "300000\n", f"{folder}__cpu_cfs_period_us": "100000\n"},
        **{"memory__job__cpu_max": "100000 100000"},
    )
    assert quota_in_cores(root) == 3


def test_an_unlimited_group_of_version_1(tmp_path: Path) -> None:
    files = {"cpu__cpu_cfs_quota_us": "-1\n", "cpu__cpu_cfs_period_us": "100000\n"}
    assert quota_in_cores(made(tmp_path, "2:cpu:/\n", **files)) == NO_LIMIT


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"), [(8, 2.9, 2), (8, 0.5, 1), (4, NO_LIMIT, 4), (1, 16.0, 1)]
)
def test_usable_cores(
    monkeypatch: pytest.MonkeyPatch, affinity: int, quota: float, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(cores, "quota_in_cores", lambda _: quota)
    assert usable_cores() == expected
