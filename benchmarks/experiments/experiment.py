"""Shared by the experiments on trained detectors: bundles, peaks, and the footer of tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsna_lumbar.benchmarks.harness.machine import machine_conditions
from rsna_lumbar.runtime.core.labels import GROUPS

if TYPE_CHECKING:
    from rsna_lumbar.train.calibration.labelled_peaks import Chosen, PeakTable

_EXPORT = [sys.executable, "-c", "from rsna_lumbar.export.cli import main; main()"]


def export_bundle(bundle: Path, weights: Mapping[str, Path]) -> Path:
    """Export one detector per group, unless the bundle is there already.

    Args:
        bundle: folder to make.
        weights: by group, the folder that ``rsna-train fit`` wrote.
    """
    if not bundle.exists():
        words = [
            word
            for group in GROUPS
            for word in (f"--{group.name}", str(weights[group.name] / f"{group.name}.pt"))
        ]
        bundle.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([*_EXPORT, str(bundle), *words], check=True, stdout=subprocess.DEVNULL)
    return bundle


def peaks_of(bundle: Path, root: Path, chosen: Chosen) -> PeakTable:
    """Peaks of the detectors of a bundle in labelled studies of a root."""
    from rsna_lumbar.train.calibration.labelled_peaks import collect_peaks

    return collect_peaks(bundle, root, chosen.studies, workers=0)


def settings_of(weights: Path, group: str) -> str:
    """The training of a detector, in a line."""
    card: dict[str, Any] = json.loads((weights / f"{group}.json").read_bytes())
    settings = card["settings"]
    return (
        f"{card['size_px']} px, model {settings['model']}, {settings['epochs']} epochs, "
        f"batch {settings['batch_size']}, seed {settings['seed']}"
    )


def footer() -> str:
    """Machine and versions."""
    return "\n".join(machine_conditions().values())
