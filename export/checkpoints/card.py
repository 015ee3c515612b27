"""The card that ``rsna-train fit`` writes beside a checkpoint: ``spinal.json`` for ``spinal.pt``.

It has the prior rows, the image size and the preprocessing. A checkpoint without a card has no
known preprocessing (``--window`` gives it) and gets the default prior: the published frequencies of
the three grades, 77, 16 and 6 percent, weighted as in the metric and normalised, (77, 32, 24) / 133
for every row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.errors import CheckpointError
from rsna_lumbar.runtime.core.labels import GRADE_WEIGHTS, GRADES, Group
from rsna_lumbar.runtime.core.preprocess import Preprocessing

GRADE_FREQUENCIES = (77.0, 16.0, 6.0)  # percent of the labels of the RSNA 2024 training set
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Card:
    """What training knows and a checkpoint does not contain."""

    prior: NDArray[np.float64]  # (L, 3), rows sum to 1
    size_px: int | None
    preprocessing: Preprocessing | None  # None only in the default card


def card_path(weights: Path) -> Path:
    """Path of a checkpoint's card."""
    return weights.with_suffix(".json")


def read_card(weights: Path, group: Group) -> Card | None:
    """Read the card of a checkpoint; None if there is none.

    Raises:
        CheckpointError: the card cannot be used.
    """
    path = card_path(weights)
    try:
        return _card(json.loads(path.read_bytes()), group)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError) as error:
        detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{path}, the card of {weights.name}, is damaged ({detail}); run rsna-train fit "
            "again, or move the card away to export with the default prior"
        ) from error


def default_card(group: Group) -> Card:
    """The card for a checkpoint that has none."""
    weighted = np.multiply(GRADE_FREQUENCIES, GRADE_WEIGHTS)
    prior = np.tile(weighted / weighted.sum(), (len(group.locations), 1))
    return Card(prior, None, None)


def _card(fields: Any, group: Group) -> Card:
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    if fields["group"] != group.name:
        raise ValueError(f"it is for group {fields['group']!r}, not {group.name}")
    size_px = fields["size_px"]
    if type(size_px) is not int:
        raise ValueError("size_px is not an integer")
    return Card(
        prior=_prior(fields["prior"], group),
        size_px=size_px,
        preprocessing=Preprocessing(**fields["preprocessing"]),
    )


def _prior(rows: Any, group: Group) -> NDArray[np.float64]:
    prior = np.array(rows, np.float64)
    if prior.shape != (len(group.locations), len(GRADES)):
        raise ValueError(f"its prior has the shape {prior.shape}")
    sums = prior.sum(axis=1, keepdims=True)
    if not (prior.min() >= 0 and np.abs(sums - 1).max() <= SUM_TOLERANCE):
        raise ValueError("a row of its prior does not sum to 1")
    return np.asarray(prior / sums)
