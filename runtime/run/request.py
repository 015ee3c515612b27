"""The request that a command line makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.run.pseudonyms import Names


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command line."""

    data: tuple[Path, ...]
    bundle: Path
    output: Path
    evidence: Path | None
    series: Path | None
    studies: Path | None
    backend: str
    precision: str
    device: str
    batch_size: int | None
    workers: int | None
    threads: int | None
    slices: str
    trust: bool
    ids: str | None
    resume: bool
    strict: bool
    quiet: bool
    tables: bool  # print a table for each study

    def options(self, names: Names) -> dict[str, Any]:
        """The options that the run manifest records; names of inputs as in the outputs."""
        return {
            "data": [names(str(path)) for path in self.data],
            "bundle": names(str(self.bundle)),
            "series": names(str(self.series)) if self.series else None,
            "studies": names(str(self.studies)) if self.studies else None,
            "ids": self.ids,
            "backend": self.backend,
            "precision": self.precision,
            "trust": self.trust,
            "device": self.device,
            "workers": self.workers,
            "threads": self.threads,
            "slices": self.slices,
            "evidence": names(str(self.evidence)) if self.evidence else None,
            "resume": self.resume,
            "strict": self.strict,
        }
