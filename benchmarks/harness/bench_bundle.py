"""A bundle of random YOLOv8 detectors in every variant to time, and its checkpoints.

Random weights need the time of trained ones. They cannot show accuracy, so the limits of
``rsna-export`` for lower precisions, which were set with trained detectors, are not applied here;
float32 is held to PyTorch as always. The difference of each precision is printed beside its time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.benchmarks.harness.method import CHANNELS
from rsna_lumbar.benchmarks.harness.variants import Variant
from rsna_lumbar.export.bundling.build import build_bundle, extend_bundle
from rsna_lumbar.export.bundling.options import ExportOptions
from rsna_lumbar.export.formats import BACKEND_OF
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.bundle.records import MANIFEST
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.system.ultralytics_env import prepare_third_party

FORMAT_OF = {backend: name for name, backend in BACKEND_OF.items()}
# Every row may change. The metric's limit is finite: 0 times infinity is no number, and that is
# over every limit.
NO_LIMITS = Limits(math.inf, math.inf, math.inf, 1.0, 1e9)
ONLY_FLOAT32 = {name: LIMITS[name] if name == "fp32" else NO_LIMITS for name in LIMITS}


@dataclass(frozen=True, slots=True)
class BenchBundle:
    """Checkpoints by group, and the bundle that was made from them."""

    folder: Path
    weights: Mapping[str, Path]


def random_checkpoint(folder: Path, group: Group, scale: str) -> Path:
    """The checkpoint of a random detector, made unless it is in the folder.

    Raises:
        UsageError: torch or ultralytics is not installed.
    """
    from rsna_lumbar.export.checkpoints.synthetic import random_detector, save_checkpoint

    path = folder / f"{group.name}-yolov8{scale}.pt"
    if not path.exists():
        aside = path.with_suffix(".part")  # the process may be killed at any moment
        save_checkpoint(random_detector(group, scale=scale, channels=CHANNELS), aside)
        aside.rename(path)
    return path


def make_bench_bundle(
    work: Path,
    variants: Sequence[Variant],
    *,
    scale: str,
    size_px: int,
    studies: Path,
) -> BenchBundle:
    """Make what the folder lacks; a second call builds nothing again.

    Args:
        work: folder that keeps checkpoints and bundle.
        variants: to be in the bundle.
        scale: of YOLOv8: n, s, m, l or x.
        size_px: side of the slices.
        studies: root of studies to calibrate int8 on; every model is verified on the first.

    Raises:
        UsageError: a variant is not available here.
    """
    prepare_third_party("bench")
    weights = {group.name: random_checkpoint(work, group, scale) for group in GROUPS}
    folder = work / f"bundle-yolov8{scale}-{size_px}"
    is_there = (folder / MANIFEST).exists()
    made = {(v.backend, v.precision) for v in read_bundle(folder).variants} if is_there else set()
    missing = [one for one in variants if (one.backend, one.precision) not in made]
    if missing:
        options = _options(missing, studies)
        if is_there:
            outcome = extend_bundle(folder, options=options, report=lambda _: None)
        else:
            paths = {name: (path,) for name, path in weights.items()}
            outcome = build_bundle(
                folder, paths, image_size_px=size_px, options=options, report=lambda _: None
            )
        for variant, why in outcome.left_out.items():
            raise UsageError(f"{variant} is not available here: {why}")
    return BenchBundle(folder, weights)


def _options(missing: Sequence[Variant], studies: Path) -> ExportOptions:
    """All variants at once: every addition verifies the whole bundle again."""
    for one in missing:
        if one.backend not in FORMAT_OF:
            raise UsageError(f"{one}: the backend is none of {', '.join(FORMAT_OF)}")
    return ExportOptions(
        formats=tuple(dict.fromkeys(FORMAT_OF[one.backend] for one in missing)),
        precisions=tuple(dict.fromkeys(one.precision for one in missing)),
        calibration_data=studies,
        verify_data=studies,
        verify_studies=1,
        limits=ONLY_FLOAT32,
    )
