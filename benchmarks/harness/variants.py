"""What of ours is timed: backend, precision and which slices are read, as ``openvino:bf16``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rsna_lumbar.runtime.core.errors import UsageError

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
    def of_all_slices(self) -> Variant:
        return replace(self, slices=ALL_SLICES)

    @property
    def options(self) -> tuple[str, ...]:
        """What ``rsna-run`` is given for it."""
        words = ("--backend", self.backend, "--precision", self.precision, "--device", "cpu")
        return words if self.slices == ALL_SLICES else (*words, "--slices", self.slices)


def read_variants(text: str) -> tuple[Variant, ...]:
    """``onnxruntime:fp32,openvino:bf16:relevant`` -> variants, each once.

    Raises:
        UsageError: a part that is not BACKEND:PRECISION or BACKEND:PRECISION:SLICES.
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
