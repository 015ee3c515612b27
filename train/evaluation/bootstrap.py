"""How far a score may be off because these studies were scored and not others like them.

Percentile bootstrap over studies: as many studies as there are, drawn with replacement, are scored
again and again, and an interval reaches from the 2.5th to the 97.5th percentile of what that gives.
The rows of a study share a patient and a scan, so studies are drawn and not rows. Each draw scores
submission and prior alike, which makes the interval of their ratio that of a paired comparison. The
prior stays as it is: it is not counted again on the drawn studies.

A term is a quotient of sums over studies (runtime/core/metric.py), so a draw is scored by adding up
sums, and no table is made. Where a term does not exist among the drawn studies (any severe spinal,
without a severe one), the draw says nothing of it, nor of the score, which would be another mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rsna_lumbar.runtime.core.metric import SCORE, FloatArray, IntArray, StudySums, quotients

RESAMPLES = 1000
ENOUGH = 100  # studies; what intervals of fewer hold is in docs/training.md
SEED = 0
CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds that hold the middle 95 % of the resamples."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """By term, and of the score under its name; without those that do not exist."""

    resamples: int
    missing: dict[str, int]  # in how many of them there is no such figure
    submission: dict[str, Interval]
    ratio: dict[str, Interval]  # submission over prior


def intervals(submission: StudySums, prior: StudySums, resamples: int) -> Intervals | None:
    """95 % intervals of every term, the score, and their ratios to the prior's.

    Args:
        submission: sums of S studies.
        prior: of the same studies and terms.
        resamples: how many; 0 for none.

    Returns:
        None without resamples; no interval of a single study, which is drawn in one way only.
    """
    studies = len(submission.sums)
    if resamples < 1:
        return None
    if studies < 2:
        return Intervals(resamples, {}, {}, {})
    exists = ~np.isnan(quotients(submission.sums.sum(axis=0)))
    both = np.stack([submission.sums, prior.sums], axis=1)[:, :, exists]  # (S, 2, K, 3)
    flat = both.reshape(studies, -1)
    drawn = [np.bincount(draw, minlength=studies) @ flat for draw in draws(studies, resamples)]
    terms = quotients(np.stack(drawn).reshape(resamples, *both.shape[1:]))  # (R, 2, K)
    figures = np.concatenate([terms, terms.mean(axis=2, keepdims=True)], axis=2)
    names = [*np.array(submission.terms)[exists].tolist(), SCORE]
    return Intervals(
        resamples=resamples,
        missing=dict(zip(names, np.isnan(figures[:, 0]).sum(axis=0).tolist(), strict=True)),
        submission=_by_name(names, figures[:, 0]),
        ratio=_by_name(names, figures[:, 0] / figures[:, 1]),
    )


def draws(studies: int, resamples: int) -> Iterator[IntArray]:
    """The indices (S,) of the studies of each resample, the same in every call."""
    random = np.random.default_rng(SEED)
    for _ in range(resamples):
        yield random.integers(0, studies, studies)


def _by_name(names: list[str], figures: FloatArray) -> dict[str, Interval]:
    """Intervals of the columns (R, K); NaN where a figure does not exist."""
    return {
        name: _interval(column[~np.isnan(column)])
        for name, column in zip(names, figures.T, strict=True)
        if not np.isnan(column).all()
    }


def _interval(values: FloatArray) -> Interval:
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    return Interval(float(low), float(high))
