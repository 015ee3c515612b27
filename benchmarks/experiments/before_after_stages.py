"""Stages of two builds, each alone, in fresh processes in turns: see ``stage_clock``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import stage_clock
from stage_clock import RECORD, STAGES, Task

from rsna_lumbar.benchmarks.harness.fresh_runs import quiet_environment
from rsna_lumbar.benchmarks.harness.process_tree import Measured, run_measured
from rsna_lumbar.benchmarks.harness.timing import in_turns
from rsna_lumbar.runtime.core.errors import UsageError

# -P: modules come from the build, not from the folder of the file.
CLOCK = (sys.executable, "-P", stage_clock.__file__)


@dataclass(frozen=True, slots=True)
class Build:
    """A folder with the package in it, and one to work in.

    Raises:
        UsageError: the package is not in the folder; the one of this environment would be timed.
    """

    package: Path
    scratch: Path

    def __post_init__(self) -> None:
        if not (self.package / "rsna_lumbar" / "runtime").is_dir():
            raise UsageError(f"{self.package} does not hold rsna_lumbar/runtime; install it there")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the builds, by round."""

    name: str
    runs: Mapping[str, list[Measured]]  # by build
    same: bool  # all runs of all builds gave the same results


def stages_in_turns(builds: Mapping[str, Build], task: Task, *, rounds: int) -> Iterator[Stage]:
    """Time every stage of each build once a round.

    Args:
        builds: by name.
        task: what to time; its folders are absolute.
        rounds: of fresh processes.

    Raises:
        LumbarError: a process failed.
    """
    calls = {name: partial(_told_by, build, task) for name, build in builds.items()}
    told = in_turns(calls, rounds=rounds)
    for stage in STAGES:
        of_stage = {name: [one[stage] for one in some] for name, some in told.items()}
        found = {one["found"] for some in of_stage.values() for one in some}
        runs = {
            name: [Measured(one["wall_s"], one["cpu_s"], None) for one in some]
            for name, some in of_stage.items()
        }
        yield Stage(stage, runs, len(found) == 1)


def _told_by(build: Build, task: Task) -> dict[str, Any]:
    """The record of a fresh process about a build."""
    environment = {
        **quiet_environment(build.scratch / "cache"),
        "PYTHONPATH": str(build.package.resolve()),
    }
    command = (*CLOCK, json.dumps(asdict(task)))
    run_measured(command, folder=build.scratch, environment=environment)
    told: dict[str, Any] = json.loads((build.scratch / RECORD).read_text())
    return told
