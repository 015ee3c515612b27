"""What a bundle holds, as a table: one row for each model file."""

from __future__ import annotations

from pathlib import Path

from rsna_lumbar.runtime.bundle import Bundle, Detector, Model, read_model
from rsna_lumbar.runtime.errors import BundleError

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
    return "\n".join(lines), set(hashes) == {"ok"}


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
