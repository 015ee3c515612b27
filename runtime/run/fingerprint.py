"""The identity of a run: everything that its bytes depend on, except the files of its studies.

Nothing here imports DICOM code, so the identity is known before the run begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsna_lumbar.runtime.bundle.records import MANIFEST
from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.system.machine import this_machine, versions_of

if TYPE_CHECKING:
    from rsna_lumbar.runtime.inference.loaded_bundle import OpenBundle
    from rsna_lumbar.runtime.run.request import Request
    from rsna_lumbar.runtime.studies.study import StudyStream

LIBRARIES = (
    "rsna-lumbar",
    "numpy",
    "pydicom",
    "pillow",
    "pylibjpeg",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "onnxruntime-gpu",
    "onnxruntime",
)


def software() -> dict[str, str]:
    """Versions of the software that computed a run."""
    return {**versions_of(LIBRARIES), **this_machine().versions}


def asked_for(request: Request, targets: Mapping[str, Path], threads: int) -> dict[str, Any]:
    """The part of the request that affects the bytes of a run; the number of workers does not."""
    return {
        "--bundle": sha256_of(request.bundle / MANIFEST),
        "DATA": digest(str(path.resolve()) for path in request.data),
        "--series": sha256_of(request.series) if request.series else None,
        "--studies": sha256_of(request.studies) if request.studies else None,
        "--backend": request.backend,
        "--precision": request.precision,
        "--device": request.device,
        "--batch-size": request.batch_size,
        "the number of threads": threads,
        "--slices": request.slices,
        "--ids": request.ids,
        "what is written": ", ".join(f"{name} {path.name}" for name, path in targets.items()),
        "the software": " ".join(f"{name} {version}" for name, version in software().items()),
    }


def found_out(opened: OpenBundle, found: StudyStream) -> dict[str, Any]:
    """The other facts that affect them, except the files of the studies."""
    return {
        "the variant": str(opened.candidate.variant),
        "the device": this_machine().describe(opened.device),
        "the list of studies": f"{found.count} studies, {digest(found.ids)}",
        "the table of series": sha256_of(found.table) if found.table else None,
    }


def digest(texts: Iterable[str]) -> str:
    """SHA-256 of these texts."""
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode(errors="surrogateescape") + b"\n")
    return found.hexdigest()
