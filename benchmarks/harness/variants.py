"""The variants of ``rsna-run``: backend, precision and slices to read, as ``openvino:bf16``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rsna_lumbar.runtime.core.errors import UsageError

if TYPE_CHECKING:
    from rsna_lumbar.runtime.api import Scorer

ALL_SLICES = "all"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run ``rsna-run``."""

    backend: str
    precision: str
    slices: str = ALL_SLICES

    def __str__(self) -> str:
        chosen = "" if self.slices == ALL_SLICES else f":{self.slices}"
        return f"{self.backend}:{self.precision}{chosen}"

    @property
    def options(self) -> tuple[str, ...]:
        """The options of ``rsna-run``."""
        words = ("--backend", self.backend, "--precision", self.precision, "--device", "cpu")
        return words if self.slices == ALL_SLICES else (*words, "--slices", self.slices)

    def scorer(self, bundle: Path, threads: int) -> Scorer:
        """The Python API with its backend and precision; it reads all slices."""
        from rsna_lumbar.runtime.api import Scorer

        backend, precision = self.backend, self.precision
        return Scorer(bundle, backend=backend, precision=precision, device="cpu", threads=threads)


def read_variants(text: str) -> tuple[Variant, ...]:
    """``onnxruntime:fp32,openvino:bf16:relevant`` -> variants, each once.

    Raises:
        UsageError: a part is not BACKEND:PRECISION or BACKEND:PRECISION:SLICES.
    """
    found = []
    for part in text.split(","):
        words = part.strip().split(":")
        if len(words) not in (2, 3) or not all(words):
            raise UsageError(
                f"variant {part!r} is not BACKEND:PRECISION[:SLICES], such as openvino:bf16"
            )
        found.append(Variant(*words))
    return tuple(dict.fromkeys(found))
