"""The uncertainty of a score that comes from the choice of the studies.

Percentile bootstrap over studies: the same number of studies is drawn with replacement and scored,
many times; an interval reaches from the 2.5th to the 97.5th percentile of the results. The rows of
a study share a patient and a scan, so studies are drawn, not rows. Each draw scores submission and
prior, so the interval of their ratio is that of a paired comparison. The prior is not counted again
on the drawn studies.

A term is a quotient of sums over studies (runtime/core/metric.py), so a draw is scored by adding
sums, without a table. If a term does not exist in a draw (any severe spinal, without a severe row),
the draw counts neither for the term nor for the score, which would be the mean of other terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rsna_lumbar.runtime.core.metric import SCORE, FloatArray, IntArray, StudySums, quotients

RESAMPLES = 1000
ENOUGH = 100  # studies; docs/training.md has the coverage of intervals of fewer
SEED = 0
CONFIDENCE = 0.95
_TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of the middle 95 % of the resamples."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals by term, and of the score; without terms that do not exist."""

    resamples: int
    missing: dict[str, int]  # number of resamples without this figure
    submission: dict[str, Interval]
    ratio: dict[str, Interval]  # submission over prior


def intervals(submission: StudySums, prior: StudySums, resamples: int) -> Intervals | None:
    """95 % intervals of terms, score and their ratios to the prior's, which has the same studies.

    Returns:
        None without resamples; no intervals for a single study, as there is only one draw.
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
    """Intervals of the columns (R, K); NaN if a figure does not exist."""
    return {
        name: Interval(*np.nanquantile(column, [_TAIL, 1 - _TAIL]).tolist())
        for name, column in zip(names, figures.T, strict=True)
        if not np.isnan(column).all()
    }
