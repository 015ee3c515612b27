"""The request that a command line makes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.run.pseudonyms import Names
from rsna_lumbar.runtime.studies.study import STUDIES_A_CHUNK

NOT_RECORDED = ("output", "batch_size", "quiet", "tables", "sizes")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How a run divides its work: no options, but tests use smaller numbers."""

    studies_a_chunk: int = STUDIES_A_CHUNK
    small_job: int = 1  # decoding processes for a few files: a crash must not end the run


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command line."""

    data: tuple[Path, ...]
    bundle: Path
    series: Path | None
    studies: Path | None
    ids: str | None
    backend: str
    precision: str
    trust: bool
    device: str
    workers: int | None
    threads: int | None
    slices: str
    evidence: Path | None
    resume: bool
    strict: bool
    output: Path
    batch_size: int | None
    quiet: bool
    tables: bool  # print a table for each study
    sizes: Sizes = Sizes()

    def options(self, names: Names) -> dict[str, Any]:
        """The options that the run manifest records; names of inputs as in the outputs."""
        found: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in NOT_RECORDED:
                continue
            if one.name == "data":
                value = [names(str(path)) for path in value]
            found[one.name] = names(str(value)) if isinstance(value, Path) else value
        return found
