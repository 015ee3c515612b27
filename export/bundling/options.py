"""What is asked of an export beside the checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rsna_lumbar.export.formats import BuildOptions, load_format
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.runtime.core.errors import UsageError

BASE = ("onnx", "fp32")  # in every bundle: what all else is made from and compared with

Pair = tuple[str, str]  # format and precision


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Formats and precisions to make, what to make and verify them with, and what is let pass."""

    formats: tuple[str, ...] = BASE[:1]
    precisions: tuple[str, ...] = BASE[1:]
    build: BuildOptions = field(default_factory=BuildOptions)
    calibration_data: Path | None = None  # for int8
    verify_data: Path | None = None  # None: the phantom studies of the package
    verify_labels: Path | None = None
    verify_studies: int | None = None
    limits: Mapping[str, Limits] = field(default_factory=lambda: dict(LIMITS))

    def pairs(self) -> tuple[Pair, ...]:
        """Every pair of a format and a precision that there is, beside the one in every bundle.

        Raises:
            UsageError: a format has none of the precisions or the other way round, a format cannot
                be built here, or int8 is asked for without data to calibrate it on.
        """
        there_is = {name: load_format(name).PRECISIONS for name in self.formats}
        pairs = tuple(
            (name, precision)
            for name in self.formats
            for precision in self.precisions
            if precision in there_is[name]
        )
        _require_all("--format", self.formats, [name for name, _ in pairs], there_is)
        _require_all("--precision", self.precisions, [one for _, one in pairs], there_is)
        if "int8" in self.precisions and self.calibration_data is None:
            raise UsageError(
                "int8 is calibrated on slices of yours: give --calibration-data DIR, a folder of "
                "DICOM studies, the more the better"
            )
        for name in self.formats:
            load_format(name).require(name, self.build)
        return tuple(pair for pair in pairs if pair != BASE)


def _require_all(
    option: str,
    asked: Sequence[str],
    used: Sequence[str],
    there_is: Mapping[str, Sequence[str]],
) -> None:
    for one in asked:
        if one not in used:
            listed = "; ".join(f"{name} has {', '.join(some)}" for name, some in there_is.items())
            raise UsageError(f"{option} {one} goes with nothing else that is asked for: {listed}")
