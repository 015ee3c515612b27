"""Read checkpoints and their cards, check that they agree, and describe a detector per group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsna_lumbar.export.checkpoints.card import Card, card_path, default_card, read_card
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.runtime.bundle.records import Bundle, Detector, WindowSource
from rsna_lumbar.runtime.core.anchors import LARGEST_STRIDE
from rsna_lumbar.runtime.core.errors import CheckpointError, UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, Group
from rsna_lumbar.runtime.core.postprocess import Calibration, Combination
from rsna_lumbar.runtime.core.preprocess import Preprocessing

Report = Callable[[str], None]
Window = tuple[float, float]  # percentiles

# The least certain first: a bundle's window is as certain as its least certain source.
_WINDOW_SOURCES: tuple[WindowSource | None, ...] = (None, "assumed", "asked", "card")


@dataclass(frozen=True, slots=True)
class Source:
    """The checkpoints of one group, and their detector."""

    checkpoints: tuple[Checkpoint, ...]
    detector: Detector  # without models yet


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that is exported, at least one group, and what all detectors share."""

    groups: tuple[Source, ...]  # in the order of GROUPS
    preprocessing: Preprocessing
    window_from: WindowSource | None


@dataclass(frozen=True, slots=True)
class _Told:
    """A preprocessing, the name of what it belongs to, and its source."""

    by: str
    preprocessing: Preprocessing
    window_from: WindowSource | None

    def __str__(self) -> str:
        how = f" ({self.window_from})" if self.window_from else ""
        return f"{self.by}: {_described(self.preprocessing)}{how}"


def read_sources(
    weights: Mapping[str, Sequence[Path]],
    image_size_px: int | None,
    combination: Combination,
    report: Report,
    *,
    window: Window | None = None,
    kept: Bundle | None = None,
) -> Sources:
    """Read the checkpoints of the groups that have some.

    Args, other than those of :func:`rsna_lumbar.export.bundling.build.build_bundle`:
        window: None assumes the percentiles of ``rsna-train``.
        kept: a bundle whose detectors stay beside the new ones.

    Raises:
        CheckpointError: a checkpoint or card cannot be used, or they do not agree.
        UsageError: the image size is unknown or not a multiple of 32, a file is given twice, or the
            window is not valid or contradicts a card.
    """
    asked = _asked(window)
    groups, told = [], []
    for group in GROUPS:
        if paths := weights.get(group.name):
            source, said = _source(group, paths, image_size_px, combination, asked, report)
            groups.append(source)
            told += said
    if assumed := [one.by for one in told if one.window_from == "assumed"]:
        report(
            f"no card and no --window: {', '.join(assumed)} assumed to be trained on slices "
            f"windowed by {_described(Preprocessing())} (--window 0 100 is min-max)"
        )
    if kept is not None:
        told.append(_Told("the bundle", kept.preprocessing, kept.window_from))
    if any(one.preprocessing != told[0].preprocessing for one in told):
        raise CheckpointError(
            "all detectors of a bundle share one preprocessing, but these differ "
            f"({'; '.join(map(str, told))}); export checkpoints that agree, and give --window LOW "
            "HIGH for those without a card"
        )
    source_of_window = min((one.window_from for one in told), key=_WINDOW_SOURCES.index)
    return Sources(tuple(groups), told[0].preprocessing, source_of_window)


def _described(preprocessing: Preprocessing) -> str:
    """The window in words, and the padding if it is not the default."""
    low, high = _window_of(preprocessing)
    pad = preprocessing.pad_value
    padding = "" if pad == Preprocessing().pad_value else f", padded with {pad}"
    return f"percentiles {low:g} to {high:g}{padding}"


def _window_of(preprocessing: Preprocessing) -> Window:
    """Its two percentiles."""
    return preprocessing.low_percentile, preprocessing.high_percentile


def _asked(window: Window | None) -> Preprocessing | None:
    if window is None:
        return None
    try:
        return Preprocessing(*window)
    except ValueError as error:
        raise UsageError(f"--window {window[0]:g} {window[1]:g}: {error}") from error


def _source(
    group: Group,
    paths: Sequence[Path],
    image_size_px: int | None,
    combination: Combination,
    asked: Preprocessing | None,
    report: Report,
) -> tuple[Source, list[_Told]]:
    checkpoints: dict[str, Checkpoint] = {}  # by SHA-256
    for one in [read_checkpoint(path, group) for path in paths]:
        report(f"{group.name}: {one.path} (SHA-256 {one.sha256})")
        if one.sha256 in checkpoints:
            same = checkpoints[one.sha256].path
            raise UsageError(f"{one.path} and {same} are the same weights")
        checkpoints[one.sha256] = one
    cards = [_card(one, report) for one in checkpoints.values()]
    pairs = list(zip(checkpoints.values(), cards, strict=True))
    sizes = {_size(one, card, image_size_px) for one, card in pairs}
    if len(sizes) != 1:
        raise CheckpointError(
            f"the image sizes of {group.name} differ: {' and '.join(map(str, sorted(sizes)))}; "
            "export checkpoints that agree"
        )
    prior = np.mean([card.prior for card in cards], axis=0)
    detector = Detector(
        group=group,
        size_px=sizes.pop(),
        calibration=Calibration(),
        prior=tuple((float(a), float(b), float(c)) for a, b, c in prior),
        combination=combination,
        models=(),
    )
    told = [_preprocessing(one, card, asked) for one, card in pairs]
    return Source(tuple(checkpoints.values()), detector), told


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


def _preprocessing(checkpoint: Checkpoint, card: Card, asked: Preprocessing | None) -> _Told:
    """That of the card, or else the requested one, or else the default of ``rsna-train``.

    Raises:
        UsageError: the card has another window than the requested one.
    """
    name = checkpoint.path.name
    if card.preprocessing is None:
        return _Told(name, asked or Preprocessing(), "asked" if asked else "assumed")
    if asked and _window_of(asked) != _window_of(card.preprocessing):
        raise UsageError(
            f"{card_path(checkpoint.path)} says that {name} was trained with the window of "
            f"{_described(card.preprocessing)}, but --window asks for {_described(asked)}; leave "
            "--window out"
        )
    return _Told(name, card.preprocessing, "card")


def _size(checkpoint: Checkpoint, card: Card, image_size_px: int | None) -> int:
    size_px = image_size_px or card.size_px or checkpoint.trained_size_px
    if size_px is None:
        trained = "does not say its image size"
        if checkpoint.trained_px is not None:
            height, width = checkpoint.trained_px
            trained = f"was trained on {height} x {width} px, but a bundle reads squares"
        raise UsageError(f"{checkpoint.path} {trained}; give --image-size")
    if size_px < LARGEST_STRIDE or size_px % LARGEST_STRIDE:
        raise UsageError(f"image size {size_px} is not a multiple of {LARGEST_STRIDE}")
    return size_px
