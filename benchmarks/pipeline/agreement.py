"""Differences of the rows of each contender from the PyTorch forward pass on the same squares.

``predict`` differs from the forward pass for two reasons, which are shown separately: it keeps one
class per anchor, and the method prepares slices in another way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.harness.bench_bundle import BenchBundle
from rsna_lumbar.benchmarks.harness.method import CHANNELS, predicted_peaks, submission_of
from rsna_lumbar.export.checkpoints.checkpoint import read_checkpoint
from rsna_lumbar.export.checkpoints.reference import reference_peaks
from rsna_lumbar.runtime.bundle.manifest import read_bundle
from rsna_lumbar.runtime.core.labels import SUBMISSION_COLUMNS, row_id
from rsna_lumbar.runtime.core.postprocess import probabilities
from rsna_lumbar.runtime.decode.slice_sets import read_sets
from rsna_lumbar.runtime.studies.finder import find_studies

Rows = Mapping[str, NDArray[np.float64]]  # row id -> (3,)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Differences of a contender's rows from the reference."""

    largest_difference: float  # of a probability
    mean_difference: float
    changed_rows: int  # rows whose likeliest grade changes
    rows: int


@dataclass(frozen=True, slots=True)
class Reference:
    """Rows of the first studies of a root, by PyTorch on the squares of our detectors."""

    forward: Rows
    predict: Rows  # ultralytics' predict on the same squares
    boxes: float  # of predict, per slice, on average


def reference_rows(bundle: BenchBundle, data: Path, study_ids: tuple[str, ...]) -> Reference:
    """Score studies by a plain forward pass, and by ``predict`` on the same squares."""
    from ultralytics.models import YOLO

    manifest = read_bundle(bundle.folder)
    inventory = find_studies(data, studies=study_ids)
    forward: dict[str, NDArray[np.float64]] = {}
    found: list[tuple[str, str, float]] = []
    boxes: list[float] = []
    for detector in manifest.detectors:
        path = bundle.weights[detector.group.name]
        checkpoint, model = read_checkpoint(path, detector.group), YOLO(path)
        sets = read_sets(
            inventory,
            detector.group,
            size_px=detector.size_px,
            preprocessing=manifest.preprocessing,
        )
        for study_id, squares in sets.items():
            peaks = reference_peaks(checkpoint, squares).max(axis=0)
            rows = probabilities(peaks, detector.calibration)
            for (condition, level), row in zip(detector.group.locations, rows, strict=True):
                forward[row_id(study_id, condition, level)] = row
            images = [np.repeat(one[:, :, None], CHANNELS, axis=2) for one in squares]
            best, count = predicted_peaks(model, images, size_px=detector.size_px)
            boxes.append(count / len(images))
            found += [(study_id, name, peak) for name, peak in best.items()]
    return Reference(forward, _rows_of(submission_of(found)), float(np.mean(boxes)))


def agreement(rows: Rows, reference: Rows) -> Agreement:
    """Compare the rows that the reference has.

    Raises:
        KeyError: a row is missing.
    """
    ours = np.stack([rows[name] for name in reference])
    theirs = np.stack(list(reference.values()))
    difference = np.abs(ours - theirs)
    changed = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    return Agreement(float(difference.max()), float(difference.mean()), changed, len(theirs))


def read_submission(path: Path) -> Rows:
    """Row id -> three probabilities."""
    return _rows_of(pd.read_csv(path))


def _rows_of(table: pd.DataFrame) -> Rows:
    name, *grades = SUBMISSION_COLUMNS
    return dict(zip(table[name], table[grades].to_numpy(np.float64), strict=True))
