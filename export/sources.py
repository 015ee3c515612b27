"""Checkpoints and their cards -> what a bundle says of each group, read and checked first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from rsna_lumbar.export.card import Card, card_path, default_card, read_card
from rsna_lumbar.export.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.export.errors import CheckpointError
from rsna_lumbar.runtime.bundle import Detector
from rsna_lumbar.runtime.cells import LARGEST_STRIDE
from rsna_lumbar.runtime.errors import UsageError
from rsna_lumbar.runtime.grading import Calibration, Combination
from rsna_lumbar.runtime.labels import GROUPS, Group
from rsna_lumbar.runtime.preprocess import Preprocessing

Report = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """The checkpoints of one group and what they agree on."""

    checkpoints: tuple[Checkpoint, ...]
    detector: Detector  # without models yet
    preprocessing: Preprocessing


def read_sources(
    weights: Mapping[str, Sequence[Path]],
    image_size_px: int | None,
    combination: Combination,
    report: Report,
) -> tuple[Source, ...]:
    """Read the checkpoints of every group.

    Args:
        weights: group name -> its checkpoints, one or, for an ensemble, more.
        image_size_px: side of the slices; None takes it from the card or the checkpoint.
        combination: of the peaks of an ensemble's detectors.
        report: takes a line of progress.

    Raises:
        CheckpointError: a checkpoint or card cannot be used, or they do not agree.
        UsageError: an image size that is no multiple of 32 or not known, or one file twice.
    """
    sources = tuple(
        _source(group, weights[group.name], image_size_px, combination, report) for group in GROUPS
    )
    _agreed({one.preprocessing for one in sources}, "preprocessing")
    return sources


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
