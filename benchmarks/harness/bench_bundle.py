"""A bundle of random YOLOv8 detectors in every variant to time, and the checkpoints it came from.

Random weights cost what trained ones do. What they cannot show is accuracy, so the limits of
``rsna-export`` on lower precisions, which were set from trained detectors, are not applied here;
float32 is held to PyTorch as ever. How far each precision is off is printed beside its time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.export.bundling.build import build_bundle, extend_bundle
from rsna_lumbar.export.bundling.options import ExportOptions
from rsna_lumbar.export.checkpoints.synthetic import random_detector, save_checkpoint
from rsna_lumbar.export.formats import BACKEND_OF
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import MANIFEST
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import GROUPS
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

CHANNELS = 3  # as the method's pretrained checkpoints have
FORMAT_OF = {backend: name for name, backend in BACKEND_OF.items()}
NO_LIMITS = Limits(math.inf, math.inf, math.inf, 1.0, math.inf)
ONLY_FLOAT32 = {name: LIMITS[name] if name == "fp32" else NO_LIMITS for name in LIMITS}


@dataclass(frozen=True, slots=True)
class BenchBundle:
    """Checkpoints by group, and the bundle that was made from them."""

    folder: Path
    weights: Mapping[str, Path]


def make_bench_bundle(
    work: Path,
    variants: Sequence[Variant],
    *,
    scale: str,
    size_px: int,
    studies: Path,
) -> BenchBundle:
    """Make what is not there yet; a second call with the same folder builds nothing again.

    Args:
        work: folder that keeps it.
        variants: that must be in it.
        scale: of YOLOv8: n, s, m, l or x.
        size_px: side of the slices.
        studies: root of those that int8 is calibrated on; every model is verified on the first.

    Raises:
        UsageError: a variant cannot be made here.
    """
    prepare_third_party("bench")
    weights = {group.name: work / f"{group.name}-yolov8{scale}.pt" for group in GROUPS}
    for group in GROUPS:
        if not weights[group.name].exists():
            aside = weights[group.name].with_suffix(".part")
            save_checkpoint(
                random_detector(group, scale=scale, channels=CHANNELS), aside, size_px=size_px
            )
            aside.rename(weights[group.name])
    folder = work / f"bundle-yolov8{scale}-{size_px}"
    missing = _missing(folder, variants)
    if missing:
        options = _options(missing, studies)
        if (folder / MANIFEST).exists():
            outcome = extend_bundle(folder, options=options, report=_silent)
        else:
            paths = {name: (path,) for name, path in weights.items()}
            outcome = build_bundle(
                folder, paths, image_size_px=size_px, options=options, report=_silent
            )
        for variant, why in outcome.left_out.items():
            raise UsageError(f"{variant} cannot be had here: {why}")
    return BenchBundle(folder, weights)


def _missing(folder: Path, variants: Sequence[Variant]) -> list[Variant]:
    """Those to make, whatever slices are to be read with them."""
    made = read_bundle(folder).variants if (folder / MANIFEST).exists() else ()
    there = {(one.backend, one.precision) for one in made}
    return [one for one in variants if (one.backend, one.precision) not in there]


def _options(missing: Sequence[Variant], studies: Path) -> ExportOptions:
    """All at once: what is in a bundle is verified again with every addition."""
    unknown = [one for one in missing if one.backend not in FORMAT_OF]
    if unknown:
        raise UsageError(f"{unknown[0]}: the backend is none of {', '.join(FORMAT_OF)}")
    return ExportOptions(
        formats=tuple(dict.fromkeys(FORMAT_OF[one.backend] for one in missing)),
        precisions=tuple(dict.fromkeys(one.precision for one in missing)),
        calibration_data=studies,
        verify_data=studies,
        verify_studies=1,
        limits=ONLY_FLOAT32,
    )


def _silent(_: str) -> None:
    """The export's lines are of no interest here."""
