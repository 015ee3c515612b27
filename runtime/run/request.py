"""The request that a command line makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsna_lumbar.runtime.run.pseudonyms import Names
from rsna_lumbar.runtime.studies.study import STUDIES_A_CHUNK


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
    sizes: Sizes = Sizes()

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
