"""The five disc centres of a study, from the places where the spinal detector saw the levels.

Each level has candidates: points in the patient, each with a weight (the peak of a class). A spine
goes down, bends slowly, and spaces its discs in known proportions. So one candidate or none is
chosen per level. A choice is possible if, from each chosen point to the next,

- the step per level is 15 to 50 mm long (20.8 to 31.7 mm in two studies of the challenge),
- it goes down, and bends from the step before by at most 50 degrees.

Of the possible choices (4**5 with three candidates per level) the best has the largest

    sum of weights * exp(-(spread / 0.35)**2)

where the spread is the standard deviation of log(length of a step / its share in ``PROPORTIONS``).
In 1,887 labelled series of the challenge the spread is 0.06 (median), 0.11 (90 %) and 0.22 (99 %),
and 99.8 % bend by less than 50 degrees (``benchmarks/experiments/disc_steps.py``). Two levels that
were exchanged give steps of half and of twice the length: the choice without them wins.

A level without a point between two with one is interpolated; the first or the last level continues
the spine by the step beside it. Two levels at an end are not continued (their error is 15 mm in the
median), and fewer than ``LEAST`` chosen points are no spine: the discs are not known then. Nor are
they if the chosen points have little weight, or if other candidates have much: of five levels with
three random candidates each, three lie like a spine in half of all cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import LEVELS

Vector = NDArray[np.float64]  # (3,)

STEP_MM = (15.0, 50.0)
# L1/L2 to L2/L3, and so on: medians of the same series, relative to the mean step of each.
PROPORTIONS = np.array([1.08, 1.06, 1.01, 0.87])
DEPTHS = np.concatenate([[0.0], np.cumsum(PROPORTIONS)])  # of each level below L1/L2
SPREAD = 0.35
LEAST_COSINE = np.cos(np.radians(50.0))
LEAST = 3  # of five: two steps, the least whose evenness can be told
LEAST_WEIGHT = 0.1  # mean of the chosen; 0.54 or more in 59 of 60 phantom studies
# Of the highest weights of all levels; 0.6 is left where two of five levels are exchanged.
LEAST_SHARE = 0.55
SUBSETS = [
    levels
    for count in range(len(LEVELS), LEAST - 1, -1)
    for levels in combinations(range(len(LEVELS)), count)
]


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """Where a level may be."""

    point_mm: Vector  # LPS
    weight: float  # a peak, 0 to 1


@dataclass(frozen=True, eq=False, slots=True)
class Discs:
    """The discs of a study."""

    centres_mm: NDArray[np.float64]  # (5, 3), LPS, from L1/L2 to L5/S1
    seen: tuple[bool, ...]  # False: interpolated, or continued at an end
    weight: float  # mean weight of those that were seen, 0 to 1
    frame_of_reference_uid: str = ""  # empty if not known

    def as_json(self) -> dict[str, Any]:
        """Centres by level, which of them were seen, and how sure that is; for a report."""
        return {
            "centres_mm": dict(zip(LEVELS, self.centres_mm.round(1).tolist(), strict=True)),
            "seen": [level for level, seen in zip(LEVELS, self.seen, strict=True) if seen],
            "weight": round(self.weight, 3),
        }


def fit_discs(candidates: Sequence[Sequence[Candidate]]) -> Discs | None:
    """Choose one candidate or none for each level.

    Args:
        candidates: for each of the five levels, from L1/L2 to L5/S1.

    Returns:
        The discs; None if no spine from L1/L2 or L2/L3 to L4/L5 or L5/S1 is found that at least
        three candidates form, with most of the weight.
    """
    if len(candidates) != len(LEVELS):
        raise ValueError(f"candidates for {len(candidates)} levels, expected {len(LEVELS)}")
    choices = [Choices.of(levels, candidates) for levels in SUBSETS]
    best = max((one.best() for one in choices), key=lambda one: one.score)  # the first of equals
    if best.score == 0 or best.levels[0] > 1 or best.levels[-1] < len(LEVELS) - 2:
        return None
    weight = best.weight / len(best.levels)
    highest = sum(max((one.weight for one in level), default=0.0) for level in candidates)
    if weight < LEAST_WEIGHT or best.weight < LEAST_SHARE * highest:
        return None
    seen = tuple(level in best.levels for level in range(len(LEVELS)))
    return Discs(best.filled(), seen, weight)


@dataclass(frozen=True, eq=False, slots=True)
class Choices:
    """All choices of one candidate for each of k levels."""

    levels: tuple[int, ...]
    points_mm: NDArray[np.float64]  # (n, k, 3)
    weights: NDArray[np.float64]  # (n,) sums

    @classmethod
    def of(cls, levels: tuple[int, ...], candidates: Sequence[Sequence[Candidate]]) -> Self:
        of_level = [candidates[level] for level in levels]
        chosen = np.indices([len(some) for some in of_level]).reshape(len(levels), -1)  # (k, n)
        points = [
            np.reshape([one.point_mm for one in some], (-1, 3))[index]
            for some, index in zip(of_level, chosen, strict=True)
        ]
        weights = [
            np.array([one.weight for one in some])[index]
            for some, index in zip(of_level, chosen, strict=True)
        ]
        return cls(levels, np.stack(points, axis=1), np.sum(weights, axis=0))

    def best(self) -> Spine:
        """The choice with the highest score."""
        scores = self.scores()
        if not scores.any():
            return Spine(self.levels, np.zeros((len(self.levels), 3)), 0.0, 0.0)
        best = int(scores.argmax())
        return Spine(self.levels, self.points_mm[best], self.weights[best], scores[best])

    def scores(self) -> NDArray[np.float64]:
        """(n,): 0 where the points do not form a spine."""
        steps = _steps_mm(self.levels, self.points_mm)
        lengths = np.linalg.norm(steps, axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            spreads = np.log(lengths).std(axis=1)
            bends = (steps[:, 1:] * steps[:, :-1]).sum(axis=2) / (lengths[:, 1:] * lengths[:, :-1])
        possible = (
            (steps[:, :, 2] < 0).all(axis=1)
            & ((lengths >= STEP_MM[0]) & (lengths <= STEP_MM[1])).all(axis=1)
            & (bends >= LEAST_COSINE).all(axis=1)
        )
        return np.where(possible, self.weights * np.exp(-((spreads / SPREAD) ** 2)), 0.0)


@dataclass(frozen=True, eq=False, slots=True)
class Spine:
    """One choice."""

    levels: tuple[int, ...]
    points_mm: NDArray[np.float64]  # (k, 3)
    weight: float
    score: float

    def filled(self) -> NDArray[np.float64]:
        """(5, 3): the chosen points, and what they say of the other levels."""
        steps = _steps_mm(self.levels, self.points_mm)
        first, last = DEPTHS[[self.levels[0], self.levels[-1]]]
        known = DEPTHS[list(self.levels)]
        inside = np.stack([np.interp(DEPTHS, known, axis) for axis in self.points_mm.T], axis=1)
        above = np.minimum(DEPTHS - first, 0)[:, None] * steps[0]
        below = np.maximum(DEPTHS - last, 0)[:, None] * steps[-1]
        return np.asarray(inside + above + below, np.float64)


def _steps_mm(levels: tuple[int, ...], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., k - 1, 3): from each point to the next, per mean step."""
    return np.asarray(np.diff(points, axis=-2) / np.diff(DEPTHS[list(levels)])[:, None], np.float64)
