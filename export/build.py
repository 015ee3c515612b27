"""Checkpoints -> a verified bundle.

Everything is read and checked first; model files are written aside and verified there, moved in
when all of them hold, and the manifest comes last. A failure at any point leaves an older bundle
as it was, and nothing of the new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.export.card import Card, card_path, default_card, read_card
from rsna_lumbar.export.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.export.errors import CheckpointError, ExportError
from rsna_lumbar.export.rewrite import rewrite
from rsna_lumbar.export.score_graph import export_score_graph
from rsna_lumbar.export.verify import Report, verify_model
from rsna_lumbar.runtime.bundle import (
    Bundle,
    Detector,
    Model,
    model_file_name,
    remove_unreferenced,
    sha256_of,
    write_manifest,
)
from rsna_lumbar.runtime.cells import LARGEST_STRIDE
from rsna_lumbar.runtime.demo import demo_studies
from rsna_lumbar.runtime.discovery import find_studies
from rsna_lumbar.runtime.errors import UsageError
from rsna_lumbar.runtime.files import sole_user
from rsna_lumbar.runtime.grading import Calibration, Combination
from rsna_lumbar.runtime.labels import GROUPS, Group
from rsna_lumbar.runtime.preprocess import Preprocessing
from rsna_lumbar.runtime.sets import read_sets
from rsna_lumbar.runtime.versions import versions_of

ASIDE = ".rsna-export"  # inside the bundle's folder, while it is being made
BACKEND, TARGET, PRECISION, SUFFIX = "onnxruntime", "any", "fp32", ".onnx"
VERIFIED_SLICES = 64  # of each group
MADE_WITH = ("rsna-lumbar", "torch", "ultralytics", "onnx", "numpy")

T = TypeVar("T")
ReadSets = Callable[[Detector, Preprocessing], list[NDArray[np.uint8]]]


@dataclass(frozen=True, slots=True)
class Source:
    """The checkpoints of one group and what they agree on."""

    checkpoints: tuple[Checkpoint, ...]
    detector: Detector  # without models yet
    preprocessing: Preprocessing


def build_bundle(
    folder: Path,
    weights: Mapping[str, Sequence[Path]],
    *,
    image_size_px: int | None,
    verify_data: Path | None,
    report: Report,
    combination: Combination = "mean",
) -> Bundle:
    """Export checkpoints into a bundle, or replace the bundle that is there.

    Args:
        folder: of the bundle; made where it is missing.
        weights: group name -> its checkpoints, one or, for an ensemble, more.
        image_size_px: side of the slices; None takes it from the card or the checkpoint.
        verify_data: DICOM folder to verify with; None takes the phantom studies of the package.
        report: takes a line of progress.
        combination: of the peaks of an ensemble's detectors.

    Raises:
        CheckpointError: a checkpoint or card cannot be used.
        VerificationError: a graph differs from PyTorch by more than rounding.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the bundle")
    sources = [
        _source(group, weights[group.name], image_size_px, combination, report) for group in GROUPS
    ]
    preprocessing = _agreed({one.preprocessing for one in sources}, "preprocessing")
    versions = versions_of(MADE_WITH)
    read, label = _verification_slices(verify_data)
    with _aside(folder) as aside:
        detectors = []
        for source in sources:
            sets = read(source.detector, preprocessing)
            models = tuple(
                _export(aside, one, source, sets, label, versions, report)
                for one in source.checkpoints
            )
            detectors.append(replace(source.detector, models=models))
        bundle = Bundle(tuple(detectors), preprocessing, "none", versions)
        _move_in(aside, folder, bundle)
    remove_unreferenced(folder, bundle)
    return bundle


def _source(
    group: Group,
    paths: Sequence[Path],
    image_size_px: int | None,
    combination: Combination,
    report: Report,
) -> Source:
    checkpoints = [read_checkpoint(path, group) for path in paths]
    for one in checkpoints:
        report(f"{group.name}: {one.path} (SHA-256 {one.sha256})")
    _refuse_doubles(checkpoints)
    cards = [_card(one, report) for one in checkpoints]
    sizes = {_size(one, card, image_size_px) for one, card in zip(checkpoints, cards, strict=True)}
    prior = np.mean([card.prior for card in cards], axis=0)
    detector = Detector(
        group=group,
        size_px=_agreed(sizes, f"image sizes of {group.name}"),
        calibration=Calibration(),
        prior=tuple((float(a), float(b), float(c)) for a, b, c in prior),
        combination=combination,
        models=(),
    )
    preprocessing = _agreed({card.preprocessing for card in cards}, "preprocessing")
    return Source(tuple(checkpoints), detector, preprocessing)


def _refuse_doubles(checkpoints: Sequence[Checkpoint]) -> None:
    first: dict[str, Path] = {}
    for one in checkpoints:
        if one.sha256 in first:
            raise UsageError(f"{one.path} and {first[one.sha256]} are the same weights")
        first[one.sha256] = one.path


def _card(checkpoint: Checkpoint, report: Report) -> Card:
    card = read_card(checkpoint.path, checkpoint.group)
    if card is None:
        card = default_card(checkpoint.group)
        row = ", ".join(f"{share:.3f}" for share in card.prior[0])
        report(
            f"{checkpoint.group.name}: no {card_path(checkpoint.path).name} beside "
            f"{checkpoint.path.name}; every prior row is the published one ({row})"
        )
    return card


def _size(checkpoint: Checkpoint, card: Card, image_size_px: int | None) -> int:
    size_px = image_size_px or card.size_px or checkpoint.trained_size_px
    if size_px is None:
        raise UsageError(f"{checkpoint.path} does not say its image size; give --image-size")
    if size_px < LARGEST_STRIDE or size_px % LARGEST_STRIDE:
        raise UsageError(f"image size {size_px} is no multiple of {LARGEST_STRIDE}")
    return size_px


def _agreed(values: set[T], what: str) -> T:
    if len(values) != 1:
        listed = " and ".join(sorted(map(str, values)))
        raise CheckpointError(f"the {what} differ: {listed}; export checkpoints that agree")
    return next(iter(values))


def _verification_slices(verify_data: Path | None) -> tuple[ReadSets, str]:
    """A reader of slices to verify with, and what the manifest calls them."""
    data = verify_data or demo_studies()
    if not data.is_dir():
        raise UsageError(f"{data} is not there; give --verify-data DIR, a folder of DICOM files")
    inventory = find_studies(data)

    def read(detector: Detector, preprocessing: Preprocessing) -> list[NDArray[np.uint8]]:
        sets = read_sets(
            inventory,
            detector.group,
            size_px=detector.size_px,
            preprocessing=preprocessing,
            limit=VERIFIED_SLICES,
        )
        if not sets:
            raise ExportError(
                f"{data} holds no slice that {detector.group.name} reads "
                f"({detector.group.series_kind}); name another folder with --verify-data"
            )
        return sets

    return read, "data" if verify_data else "phantom"


def _export(
    aside: Path,
    checkpoint: Checkpoint,
    source: Source,
    sets: Sequence[NDArray[np.uint8]],
    label: str,
    versions: Mapping[str, str],
    report: Report,
) -> Model:
    """Write one model file aside and verify it there."""
    detector = source.detector
    group = detector.group
    report(f"{group.name}: exporting {checkpoint.path.name} at {detector.size_px} px")
    content = export_score_graph(
        rewrite(checkpoint),
        group,
        detector.size_px,
        preprocessing=source.preprocessing,
        versions=versions,
    )
    path = aside / f"{checkpoint.sha256}{SUFFIX}"
    _write_through(path, content)
    sha256 = sha256_of(path)
    report(f"{group.name}: verifying on {sum(map(len, sets))} slices")
    parity = verify_model(path, checkpoint, sets, detector=detector, source=label, report=report)
    file = model_file_name(group, BACKEND, TARGET, PRECISION, sha256, SUFFIX)
    path.rename(aside / file)
    return Model(
        file=file,
        sha256=sha256,
        backend=BACKEND,
        target=TARGET,
        precision=PRECISION,
        weights_sha256=checkpoint.sha256,
        parity=parity,
    )


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A folder inside the bundle's, for this process alone, empty at first and gone afterwards.

    Its name is always the same, so that what a killed export left in it goes as well. Folders that
    had to be made go again where the export fails.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    aside = folder / ASIDE
    aside.mkdir(parents=True, exist_ok=True)
    try:
        with sole_user(aside):
            for path in aside.iterdir():
                path.unlink()
            try:
                yield aside
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except BaseException:
        for path in made:
            with suppress(OSError):  # not empty: something else has come into it
                path.rmdir()
        raise


def _move_in(aside: Path, folder: Path, bundle: Bundle) -> None:
    """Put the model files in place, then the manifest; take them out again where that fails.

    An interrupt (no Exception) leaves unreferenced files at worst, which the next export removes.
    With the manifest there, nothing is left to be done or to be removed of this export.
    """
    files = [model.file for detector in bundle.detectors for model in detector.models]
    moved = [folder / file for file in files if not (folder / file).exists()]
    try:
        for file in files:
            os.replace(aside / file, folder / file)
        shutil.rmtree(aside)
        write_manifest(folder, bundle)
    except Exception:
        for place in moved:
            place.unlink(missing_ok=True)
        raise
