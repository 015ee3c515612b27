"""Peaks and grades -> temperature, bias and floor of one group.

The probabilities are those of :mod:`rsna_lumbar.runtime.core.postprocess`, with a = 1 / T:

    x[i, k]   = log(max(peak[i, k], floor))
    p[i, k]   = softmax over grades k of  a * x[i, k] + b[k]
    J(a, b)   = sum over graded rows i of  w[i] * -log p[i, grade[i]]
                + STRENGTH / 2 * ((a - 1)^2 + |b|^2 + (log10(floor) - log10(plain floor))^2)

w is the weight of the row's grade, scaled to a mean of 1 over the rows. For a fixed floor J is
strictly convex in (a, b), and Newton's method finds its minimum. A number added to all three biases
changes no probability, so at the minimum the sum of b is 0. The floor is the best of a short grid.
The second term pulls towards plain division (a = 1, b = 0) with the force of a few rows: it decides
if there are hardly any data, and has no noticeable effect if there are enough.

Studies that a fit did not see decide whether it is adopted (:func:`calibrate_group`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import GRADE_WEIGHTS, GRADES, MODERATE, SEVERE
from rsna_lumbar.runtime.core.metric import NO_GRADE, IntArray
from rsna_lumbar.runtime.core.postprocess import (
    MINIMUM_TEMPERATURE,
    Calibration,
    FloatArray,
    probabilities,
)
from rsna_lumbar.train.dataset.split import deal
from rsna_lumbar.train.evaluation.diagnostics import classwise_calibration_error

Aim = Literal["metric", "probability"]
AIM_WEIGHTS: Mapping[Aim, tuple[float, ...]] = MappingProxyType(
    {"metric": GRADE_WEIGHTS, "probability": (1.0,) * len(GRADES)}
)

# Force of the pull towards plain division, in rows. Measured on 200 phantom studies, with fits to 8
# to 100 of them tested on the others: 2, 5 and 10 differ by a few percent; 0.5 can end far above
# plain division after 8 or 20 studies; 20 loses gains up to 100 studies.
STRENGTH = 5.0
MAXIMUM_TEMPERATURE = 20.0
FLOORS = tuple(float(f"1e{power}") for power in range(-6, 0))  # 1e-6 ... 1e-1
FOLDS = 5
LEAST_STUDIES = 10  # with peaks and a graded row
LEAST_CASES = 5  # graded rows of each grade
PLAIN = Calibration()

_SLOPES = (1 / MAXIMUM_TEMPERATURE, 1 / MINIMUM_TEMPERATURE)  # bounds of a
_START = np.array([1.0, 0.0, 0.0, 0.0])  # (a, b): plain division
_MOST_STEPS = 100
_DIGITS = 6  # of T and b as written; far finer than any number of studies can determine

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Losses:
    """Quality of a set of probabilities, on the graded rows of a group."""

    loss: float  # mean log loss, with the weights of the aim
    error: float  # calibration error, without weights


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFit:
    """The result for one group. Losses are None if no row with peaks is graded."""

    calibration: Calibration  # to be used: the fit if it was adopted, otherwise plain division
    fitted: Calibration  # the fit to all rows
    too_few: str  # why the group cannot be judged, or ''
    kept_plain: str  # why the fit was not adopted, or ''
    rows: int
    studies: int
    plain: Losses | None
    crossvalidated: Losses | None  # every study scored by a fit that did not see it
    standard_error: float | None  # over studies, of plain.loss - crossvalidated.loss

    @property
    def adopted(self) -> bool:
        return not self.kept_plain

    @property
    def after(self) -> Losses | None:
        """The losses of ``calibration``, on studies that no fit saw."""
        return self.crossvalidated if self.adopted else self.plain


def calibrate_group(peaks: FloatArray, grades: IntArray, aim: Aim, fold_of: IntArray) -> GroupFit:
    """Fit a group, and adopt the fit if it helps on studies that it did not see.

    A fit is adopted if there are LEAST_STUDIES studies and LEAST_CASES rows of each grade, and its
    cross-validated loss is below the loss of plain division by more than one standard error over
    studies. The floor is part of each fit, so only this yes or no sees all rows.

    Args: as in :func:`crossvalidated_probabilities`.
    """
    graded = _graded(peaks, grades)
    fitted = fit_group(peaks, grades, aim)
    plain = group_probabilities(peaks, PLAIN)
    unseen = crossvalidated_probabilities(peaks, grades, aim, fold_of)
    before, after = (losses(one, grades, aim) for one in (plain, unseen))
    error = standard_error(plain, unseen, grades, aim)
    studies = int(graded.any(axis=1).sum())
    too_few = _too_few(grades[graded], studies)
    reason = too_few
    if before and after and error is not None and not too_few:
        reason = _no_gain(before.loss, after.loss, error)
    return GroupFit(
        calibration=PLAIN if reason else fitted,
        fitted=fitted,
        too_few=too_few,
        kept_plain=reason,
        rows=int(graded.sum()),
        studies=studies,
        plain=before,
        crossvalidated=after,
        standard_error=error,
    )


def study_folds(grades: IntArray, *, folds: int = FOLDS, seed: int = 0) -> IntArray:
    """Deal studies to folds so that each fold gets its share of severe and moderate ones.

    Args:
        grades: (N, any), NO_GRADE if there is none.
        seed: decides among equal studies.

    Returns:
        (N,) the fold of each study; at most N folds are used.
    """
    count = len(grades)
    folds = max(1, min(folds, count))
    rng = np.random.default_rng(seed)
    chance = rng.permutation(count)
    moderate, severe = ((grades == grade).sum(axis=1) for grade in (MODERATE, SEVERE))
    fold_of = np.empty(count, np.int64)
    worst_first = np.lexsort((chance, moderate, severe))[::-1]
    fold_of[worst_first] = deal(count, folds, rng)
    return fold_of


def crossvalidated_probabilities(
    peaks: FloatArray, grades: IntArray, aim: Aim, fold_of: IntArray
) -> Float64:
    """Probabilities of every study from a fit to the studies of the other folds.

    Args:
        peaks: (N, L, 3), NaN in a study that was not scored.
        grades: (N, L), index into GRADES, or NO_GRADE.
        aim: its weights are those of the loss.
        fold_of: (N,), from :func:`study_folds`.

    Returns:
        (N, L, 3), NaN in a study that was not scored.
    """
    found = np.empty(peaks.shape, np.float64)
    for fold in np.unique(fold_of):
        seen = fold_of != fold
        calibration = fit_group(peaks[seen], grades[seen], aim)
        found[~seen] = group_probabilities(peaks[~seen], calibration)
    return found


def group_probabilities(peaks: FloatArray, calibration: Calibration) -> Float64:
    """The runtime's formula on peaks by location, (N, L, 3) -> (N, L, 3)."""
    if not len(peaks):
        return np.empty(peaks.shape, np.float64)
    return probabilities(peaks.reshape(len(peaks), -1), calibration)


def losses(given: FloatArray, grades: IntArray, aim: Aim) -> Losses | None:
    """Log loss and calibration error over the graded rows of scored studies; None without any.

    Args:
        given: (N, L, 3) probabilities, NaN in a study that was not scored.
        grades: (N, L).
        aim: its weights are those of the loss.
    """
    graded = _graded(given, grades)
    if not graded.any():
        return None
    rows, truth = given[graded].astype(np.float64), grades[graded]
    loss = float(np.mean(_weights(truth, aim) * _log_loss(rows, truth)))
    return Losses(loss, classwise_calibration_error(truth, rows))


def _graded(values: FloatArray, grades: IntArray) -> NDArray[np.bool_]:
    """(N, L): which scored rows have a grade."""
    return np.asarray(~np.isnan(values).any(axis=2) & (grades != NO_GRADE))


def _weights(grades: IntArray, aim: Aim) -> Float64:
    """(R,) with a mean of 1."""
    weights = np.array(AIM_WEIGHTS[aim])[grades]
    return np.asarray(weights / weights.mean())


def _log_loss(given: Float64, grades: IntArray) -> Float64:
    """(R, 3) and (R,) -> (R,), clipped like the challenge's metric."""
    epsilon = np.finfo(np.float64).eps
    of_grade = given[np.arange(len(grades)), grades]
    return np.asarray(-np.log(np.clip(of_grade, epsilon, 1 - epsilon)))


# The fit


@dataclass(frozen=True, slots=True)
class _Rows:
    """Graded rows to fit on, for one floor."""

    design: Float64  # (R, 3 grades, 4 parameters): x beside the unit matrix, so scores are linear
    grades: IntArray  # (R,)
    weights: Float64  # (R,), mean 1


def fit_group(peaks: FloatArray, grades: IntArray, aim: Aim) -> Calibration:
    """Fit temperature, bias and floor; without graded rows the result is plain division.

    Args: as in :func:`crossvalidated_probabilities`.

    Returns:
        Temperature in [MINIMUM_TEMPERATURE, MAXIMUM_TEMPERATURE], bias summing to 0, both rounded
        to six digits, and a floor of FLOORS.
    """
    graded = _graded(peaks, grades)
    if not graded.any():
        return PLAIN
    rows, truth = peaks[graded].astype(np.float64), grades[graded]
    weights = _weights(truth, aim)
    candidates = []
    for floor in sorted(FLOORS, key=_floor_pull):  # of equal minima, the nearest floor wins
        scores = np.log(np.maximum(rows, floor))[:, :, None]
        unit = np.broadcast_to(np.eye(3), (len(rows), 3, 3))
        value, best = _minimum(_Rows(np.concatenate([scores, unit], axis=2), truth, weights))
        candidates.append((value + _floor_pull(floor), best, floor))
    _, (slope, *bias), floor = min(candidates, key=lambda one: one[0])
    low, middle, high = (np.round(bias, _DIGITS) + 0.0).tolist()  # + 0.0: no -0.0
    return Calibration(float(np.round(1 / slope, _DIGITS)), (low, middle, high), floor)


def _floor_pull(floor: float) -> float:
    return float(STRENGTH / 2 * np.log10(floor / PLAIN.floor) ** 2)


def _minimum(rows: _Rows) -> tuple[float, Float64]:
    """J at its minimum, without the floor's part, and the parameters (a, b)."""
    value, best = _newton(rows, _START, free=slice(0, 4))
    if not _SLOPES[0] <= best[0] <= _SLOPES[1]:  # J is convex: the minimum lies on the bound
        edge = np.array([np.clip(best[0], *_SLOPES), 0.0, 0.0, 0.0])
        value, best = _newton(rows, edge, free=slice(1, 4))
    return value, best


def _newton(rows: _Rows, start: Float64, *, free: slice) -> tuple[float, Float64]:
    """Minimise over the free parameters; steps are halved until J falls."""
    found = start.copy()
    value, slope, curvature = _derivatives(rows, found)
    for _ in range(_MOST_STEPS):
        step = np.zeros_like(found)
        step[free] = np.linalg.solve(curvature[free, free], slope[free])
        decrease = float(slope @ step)  # twice the remaining fall of a parabola
        if decrease <= 1e-12 * (1 + abs(value)):
            break
        while (trial := _derivatives(rows, found - step))[0] > value - 0.1 * decrease:
            step, decrease = step / 2, decrease / 2
            if decrease <= 1e-13 * (1 + abs(value)):  # rounding: no lower value can be found
                return value, found
        found, (value, slope, curvature) = found - step, trial
    return value, found


def _derivatives(rows: _Rows, parameters: Float64) -> tuple[float, Float64, Float64]:
    """J without the floor's part, its gradient (4,) and its Hessian (4, 4)."""
    scores = rows.design @ parameters  # (R, 3)
    scores -= scores.max(axis=1, keepdims=True)
    total = np.exp(scores).sum(axis=1, keepdims=True)
    given = np.exp(scores) / total  # (R, 3)
    of_grade = np.arange(len(given)), rows.grades
    mean = np.einsum("rk,rkp->rp", given, rows.design)
    pull = parameters - _START
    value = rows.weights @ (np.log(total[:, 0]) - scores[of_grade]) + STRENGTH / 2 * pull @ pull
    slope = rows.weights @ (mean - rows.design[of_grade]) + STRENGTH * pull
    weighted = rows.weights[:, None] * given
    curvature = np.einsum("rk,rkp,rkq->pq", weighted, rows.design, rows.design)
    curvature -= np.einsum("r,rp,rq->pq", rows.weights, mean, mean)
    return float(value), slope, curvature + STRENGTH * np.eye(len(parameters))


# The decision whether to adopt it


def _too_few(grades: IntArray, studies: int) -> str:
    if studies < LEAST_STUDIES:
        return (
            f"studies with peaks and a graded row: {studies}, at least {LEAST_STUDIES} are needed"
        )
    cases = np.bincount(grades, minlength=len(GRADES))
    if cases.min() < LEAST_CASES:
        return f"{GRADES[cases.argmin()]} rows: {cases.min()}, at least {LEAST_CASES} are needed"
    return ""


def _no_gain(before: float, after: float, error: float) -> str:
    if before - after > error:
        return ""
    return (
        f"on unseen studies the fit's loss {after:.4f} is not below {before:.4f} "
        f"by more than one standard error ({error:.4f})"
    )


def standard_error(before: Float64, after: Float64, grades: IntArray, aim: Aim) -> float | None:
    """Of the difference of the mean losses, which are ratios of sums over studies.

    With d[s] the weighted difference and v[s] the weight of study s, and D = sum d / sum v:
    sqrt(S / (S - 1) * sum (d[s] - D v[s])^2) / sum v. None for a single study.
    """
    graded = _graded(before, grades)
    study, truth = np.nonzero(graded)[0], grades[graded]
    count = len(np.unique(study))
    if count < 2:
        return None
    weights = _weights(truth, aim)
    gained = _log_loss(before[graded], truth) - _log_loss(after[graded], truth)
    of_study = np.bincount(study, weights * gained, len(grades))
    weight = np.bincount(study, weights, len(grades))
    spread = of_study - of_study.sum() / weight.sum() * weight
    return float(np.sqrt(count / (count - 1) * np.sum(spread**2)) / weight.sum())
