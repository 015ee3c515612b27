"""The lean runtime: a bundle and DICOM files -> 25 rows per study. No torch, no ultralytics.

    from rsna_lumbar.runtime import Scorer

    with Scorer("bundle") as scorer:
        frame = scorer.score("archive").to_frame()

Names are imported on first use, so importing this package is cheap. The import switches off the
telemetry of other libraries (``system/telemetry.py``); this must happen before they are imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rsna_lumbar.runtime.system.telemetry import switch_off

if TYPE_CHECKING:
    from rsna_lumbar.runtime.api import Scorer, Scores
    from rsna_lumbar.runtime.bundle.manifest import read_bundle
    from rsna_lumbar.runtime.bundle.records import Bundle
    from rsna_lumbar.runtime.core.errors import (
        BackendError,
        BundleError,
        DataError,
        LumbarError,
        UsageError,
    )
    from rsna_lumbar.runtime.core.labels import GROUPS, Group
    from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities, set_peaks
    from rsna_lumbar.runtime.core.preprocess import Preprocessing, square_slice
    from rsna_lumbar.runtime.core.reasons import Reason, Skip
    from rsna_lumbar.runtime.inference.scores import GroupScore, StudyScore
    from rsna_lumbar.runtime.run.submission import submission_rows
    from rsna_lumbar.runtime.studies.finder import find_studies, stream_studies
    from rsna_lumbar.runtime.studies.study import Inventory, Series, Study, StudyStream

switch_off()

_MODULES = {
    "api": ("Scorer", "Scores"),
    "bundle.manifest": ("read_bundle",),
    "bundle.records": ("Bundle",),
    "core.errors": ("BackendError", "BundleError", "DataError", "LumbarError", "UsageError"),
    "core.labels": ("GROUPS", "Group"),
    "core.postprocess": ("Calibration", "probabilities", "set_peaks"),
    "core.preprocess": ("Preprocessing", "square_slice"),
    "core.reasons": ("Reason", "Skip"),
    "inference.scores": ("GroupScore", "StudyScore"),
    "run.submission": ("submission_rows",),
    "studies.finder": ("find_studies", "stream_studies"),
    "studies.study": ("Inventory", "Series", "Study", "StudyStream"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "GROUPS",
    "BackendError",
    "Bundle",
    "BundleError",
    "Calibration",
    "DataError",
    "Group",
    "GroupScore",
    "Inventory",
    "LumbarError",
    "Preprocessing",
    "Reason",
    "Scorer",
    "Scores",
    "Series",
    "Skip",
    "Study",
    "StudyScore",
    "StudyStream",
    "UsageError",
    "find_studies",
    "probabilities",
    "read_bundle",
    "set_peaks",
    "square_slice",
    "stream_studies",
    "submission_rows",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
