"""The options of an export, beside the checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rsna_lumbar.export.formats import BuildOptions, load_format
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.runtime.core.errors import UsageError

Pair = tuple[str, str]  # format and precision

BASE: Pair = ("onnx", "fp32")  # in every bundle: the others are made from it and compared with it


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Formats and precisions to make, the data for them, and the limits for the results."""

    formats: tuple[str, ...] = BASE[:1]
    precisions: tuple[str, ...] = BASE[1:]
    build: BuildOptions = field(default_factory=BuildOptions)
    calibration_data: Path | None = None  # for int8
    verify_data: Path | None = None  # None: the phantom studies of the package
    verify_labels: Path | None = None
    verify_studies: int | None = None
    limits: Mapping[str, Limits] = field(default_factory=lambda: dict(LIMITS))

    def pairs(self) -> tuple[Pair, ...]:
        """Every requested format in every requested precision that it has, without ``BASE``.

        Raises:
            UsageError: a format has none of the precisions, or a precision none of the formats; a
                format cannot be built here; or int8 is requested without calibration data.
        """
        offered = {name: load_format(name).PRECISIONS for name in self.formats}
        pairs = tuple(
            (name, precision)
            for name in self.formats
            for precision in self.precisions
            if precision in offered[name]
        )
        used = {one for pair in pairs for one in pair}
        for option, asked in (("--format", self.formats), ("--precision", self.precisions)):
            if unused := [one for one in asked if one not in used]:
                listed = "; ".join(f"{name} has {', '.join(has)}" for name, has in offered.items())
                raise UsageError(
                    f"{option} {unused[0]} fits nothing else that was requested: {listed}"
                )
        if "int8" in self.precisions and self.calibration_data is None:
            raise UsageError(
                "int8 is calibrated on your slices: give --calibration-data DIR, a folder of "
                "DICOM studies, the more the better"
            )
        for name in self.formats:
            load_format(name).require(name, self.build)
        return tuple(pair for pair in pairs if pair != BASE)
