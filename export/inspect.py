"""What a bundle holds, as a table: one row for each model file."""

from __future__ import annotations

from pathlib import Path

from rsna_lumbar.runtime.bundle import Bundle, Detector, Model, read_model
from rsna_lumbar.runtime.errors import BundleError
from rsna_lumbar.runtime.grading import Calibration

COLUMNS = ("group", "model", "backend", "precision", "size", "peak", "probability", "hash")


def table(folder: Path, bundle: Bundle) -> tuple[str, bool]:
    """The table, and whether every model file is what the manifest says.

    ``peak`` and ``probability`` are the largest differences from PyTorch that export measured.
    """
    models = [(detector, model) for detector in bundle.detectors for model in detector.models]
    hashes = [hash_state(folder, model) for _, model in models]
    rows = [
        COLUMNS,
        *(
            _row(detector, model, state)
            for (detector, model), state in zip(models, hashes, strict=True)
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += ["", *(_calibration(detector) for detector in bundle.detectors)]
    lines.append(f"aim of the calibration: {bundle.calibration_aim}")
    return "\n".join(lines), set(hashes) == {"ok"}


def _calibration(detector: Detector) -> str:
    found = detector.calibration
    if found == Calibration():
        return f"{detector.group.name}: peaks divided by their sum"
    bias = " ".join(f"{value:.3f}" for value in found.bias)
    return (
        f"{detector.group.name}: temperature {found.temperature:.3f}, bias {bias}, "
        f"floor {found.floor:.0e}"
    )


def hash_state(folder: Path, model: Model) -> str:
    """``ok``, ``differs`` or ``missing``."""
    try:
        read_model(folder, model)
    except BundleError:
        return "differs" if (folder / model.file).is_file() else "missing"
    return "ok"


def _row(detector: Detector, model: Model, state: str) -> tuple[str, ...]:
    return (
        detector.group.name,
        model.file,
        model.backend,
        model.precision,
        f"{detector.size_px} px",
        f"{model.parity.peak:.1e}",
        f"{model.parity.probability:.1e}",
        state,
    )
