"""Checkpoints and their cards -> what a bundle says of each group, read and checked first."""

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


# The weakest first: what is known of a whole bundle is what is known of the least known.
_WINDOW_SOURCES: tuple[WindowSource | None, ...] = (None, "assumed", "asked", "card")


@dataclass(frozen=True, slots=True)
class Source:
    """The checkpoints of one group and what they agree on."""

    checkpoints: tuple[Checkpoint, ...]
    detector: Detector  # without models yet


@dataclass(frozen=True, slots=True)
class Sources:
    """What is exported: at least one group, and what all detectors of a bundle share."""

    groups: tuple[Source, ...]  # in the order of GROUPS
    preprocessing: Preprocessing
    window_from: WindowSource | None


@dataclass(frozen=True, slots=True)
class _Told:
    """A preprocessing, by whom, and how that is known."""

    by: str
    preprocessing: Preprocessing
    window_from: WindowSource | None

    def __str__(self) -> str:
        how = f" ({self.window_from})" if self.window_from else ""
        return f"{self.by}: {described(self.preprocessing)}{how}"


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

    Args:
        weights: group name -> its checkpoints, one or, for an ensemble, more; or none.
        image_size_px: side of the slices; None takes it from the card or the checkpoint.
        combination: of the peaks of an ensemble's detectors.
        report: takes a line of progress.
        window: percentiles that the slices of checkpoints without a card were made with; None
            assumes those of training here.
        kept: a bundle whose detectors these will stand beside.

    Raises:
        CheckpointError: a checkpoint or card cannot be used, or they do not agree.
        UsageError: an image size that is no multiple of 32 or not known, one file twice, or a
            window that is none or not a card's.
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
            f"windowed by {described(Preprocessing())} (--window 0 100 is min-max)"
        )
    if kept is not None:
        told.append(_Told("the bundle", kept.preprocessing, kept.window_from))
    return Sources(
        tuple(groups),
        _agreed_preprocessing(told),
        min((one.window_from for one in told), key=_WINDOW_SOURCES.index),
    )


def described(preprocessing: Preprocessing) -> str:
    """The window in words, and the padding where it is not the usual one."""
    low, high = window_of(preprocessing)
    pad = preprocessing.pad_value
    padding = "" if pad == Preprocessing().pad_value else f", padded with {pad}"
    return f"percentiles {low:g} to {high:g}{padding}"


def window_of(preprocessing: Preprocessing) -> Window:
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
    checkpoints = [read_checkpoint(path, group) for path in paths]
    for one in checkpoints:
        report(f"{group.name}: {one.path} (SHA-256 {one.sha256})")
    _refuse_doubles(checkpoints)
    cards = [_card(one, report) for one in checkpoints]
    pairs = list(zip(checkpoints, cards, strict=True))
    told = [_preprocessing(one, card, asked) for one, card in pairs]
    prior = np.mean([card.prior for card in cards], axis=0)
    detector = Detector(
        group=group,
        size_px=_agreed_size({_size(one, card, image_size_px) for one, card in pairs}, group),
        calibration=Calibration(),
        prior=tuple((float(a), float(b), float(c)) for a, b, c in prior),
        combination=combination,
        models=(),
    )
    return Source(tuple(checkpoints), detector), told


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


def _preprocessing(checkpoint: Checkpoint, card: Card, asked: Preprocessing | None) -> _Told:
    """As the card says, else as asked for, else as training here makes slices.

    Raises:
        UsageError: the card says another window than is asked for.
    """
    name = checkpoint.path.name
    if card.preprocessing is None:
        return _Told(name, asked or Preprocessing(), "asked" if asked else "assumed")
    if asked and window_of(asked) != window_of(card.preprocessing):
        raise UsageError(
            f"{card_path(checkpoint.path)} says that {name} was trained with the "
            f"window of {described(card.preprocessing)}, but --window asks for {described(asked)}; "
            "leave --window out"
        )
    return _Told(name, card.preprocessing, "card")


def _size(checkpoint: Checkpoint, card: Card, image_size_px: int | None) -> int:
    size_px = image_size_px or card.size_px or checkpoint.trained_size_px
    if size_px is None:
        raise UsageError(f"{checkpoint.path} {_no_size(checkpoint)}; give --image-size")
    if size_px < LARGEST_STRIDE or size_px % LARGEST_STRIDE:
        raise UsageError(f"image size {size_px} is no multiple of {LARGEST_STRIDE}")
    return size_px


def _no_size(checkpoint: Checkpoint) -> str:
    if checkpoint.trained_px is None:
        return "does not say its image size"
    height, width = checkpoint.trained_px
    return f"was trained on {height} x {width} px, and a bundle has squares"


def _agreed_size(sizes: set[int], group: Group) -> int:
    if len(sizes) != 1:
        listed = " and ".join(map(str, sorted(sizes)))
        raise CheckpointError(
            f"the image sizes of {group.name} differ: {listed}; export checkpoints that agree"
        )
    return next(iter(sizes))


def _agreed_preprocessing(told: Sequence[_Told]) -> Preprocessing:
    found = {one.preprocessing for one in told}
    if len(found) != 1:
        listed = "; ".join(map(str, told))
        raise CheckpointError(
            f"the preprocessing differs, which all detectors of a bundle share ({listed}); export "
            "checkpoints that agree, and give --window LOW HIGH for those without a card"
        )
    return next(iter(found))
