"""Peaks and grades -> temperature, bias and floor of one group.

The probabilities are those of :mod:`rsna_lumbar.runtime.core.postprocess`, with a = 1 / T:

    x[i, k]   = log(max(peak[i, k], floor))
    p[i, k]   = softmax over grades k of  a * x[i, k] + b[k]
    J(a, b)   = sum over graded rows i of  w[i] * -log p[i, grade[i]]
                + STRENGTH / 2 * ((a - 1)^2 + |b|^2 + (log10(floor) - log10(plain floor))^2)

where w is the weight of the row's grade, scaled to a mean of 1 over the rows. For a fixed floor J
is strictly convex in (a, b): Newton finds its one minimum. Adding a number to all three biases
changes no probability, so at the minimum b sums to 0. The floor is the best of a short grid.
The second term pulls towards plain division (a = 1, b = 0) with the force of a few rows: it
decides where there is hardly any data and is not felt where there is enough.

Whether a fit is adopted is decided by studies that it did not see, see :func:`calibrate_group`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.core.labels import GRADE_WEIGHTS, GRADES, MODERATE, SEVERE
from rsna_lumbar.runtime.core.metric import NO_GRADE
from rsna_lumbar.runtime.core.postprocess import MINIMUM_TEMPERATURE, Calibration, probabilities
from rsna_lumbar.train.dataset.split import deal
from rsna_lumbar.train.evaluation.diagnostics import classwise_calibration_error

Aim = Literal["metric", "probability"]
AIM_WEIGHTS: Mapping[Aim, tuple[float, ...]] = MappingProxyType(
    {"metric": GRADE_WEIGHTS, "probability": (1.0,) * len(GRADES)}
)

# Of the pull towards plain division, in rows. Measured on 200 phantom studies, fitted to 8 to 100
# of them and tried on the others, 2, 5 and 10 differ by a few percent; 0.5 can end up far above
# plain division after 8 or 20 studies, 20 wastes gains up to 100 studies.
STRENGTH = 5.0
MAXIMUM_TEMPERATURE = 20.0
FLOORS = tuple(float(f"1e{power}") for power in range(-6, 0))  # 1e-6 ... 1e-1
FOLDS = 5
LEAST_STUDIES = 10  # with peaks and a graded row
LEAST_CASES = 5  # graded rows of each grade
PLAIN = Calibration()

_SLOPES = (1 / MAXIMUM_TEMPERATURE, 1 / MINIMUM_TEMPERATURE)  # bounds of a
# Columns span the biases that sum to 0, orthonormal so that |u| = |b|.
_BIAS_BASIS = np.array([[-1.0, -1.0], [1.0, -1.0], [0.0, 2.0]]) / np.sqrt([2.0, 6.0])
_START = np.array([1.0, 0.0, 0.0])  # (a, u): plain division
_MOST_STEPS = 100
_DIGITS = 6  # of T and b as written: far below what any number of studies can tell

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Losses:
    """How one set of probabilities does on the graded rows of a group."""

    loss: float  # mean log loss, weighted as the aim says
    error: float  # calibration error, never weighted


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFit:
    """What became of one group. Where there is no graded row with peaks, losses are None."""

    calibration: Calibration  # to be used: the fit, or plain division where it was not adopted
    fitted: Calibration  # the fit to all rows
    too_few: str  # why the group cannot be judged; '' where it can
    kept_plain: str  # why the fit was not adopted; '' where it was
    rows: int
    studies: int
    plain: Losses | None
    crossvalidated: Losses | None  # of the fit: every study by a fit that did not see it
    standard_error: float | None  # over studies, of plain.loss - crossvalidated.loss

    @property
    def adopted(self) -> bool:
        return not self.kept_plain

    @property
    def after(self) -> Losses | None:
        """Of what is to be used, on studies that no fit saw."""
        return self.crossvalidated if self.adopted else self.plain


@dataclass(frozen=True, slots=True)
class _Rows:
    """Graded rows to fit on."""

    peaks: NDArray[np.float64]  # (R, 3)
    grades: IntArray  # (R,)
    weights: NDArray[np.float64]  # (R,), mean 1


def fit_group(peaks: FloatArray, grades: IntArray, aim: Aim) -> Calibration:
    """Fit temperature, bias and floor; no rows give plain division.

    Args:
        peaks: (N, L, 3) of N studies, NaN in a study that was not scored.
        grades: (N, L), index into GRADES, or NO_GRADE.
        aim: whose weights the loss has.

    Returns:
        Temperature in [MINIMUM_TEMPERATURE, MAXIMUM_TEMPERATURE], bias summing to 0, both rounded
        to six digits, and a floor of FLOORS.
    """
    rows = _graded_rows(peaks, grades, aim)
    if not len(rows.grades):
        return PLAIN
    candidates = [(*_fit_at_floor(rows, floor), floor) for floor in _floors_by_nearness()]
    _, parameters, floor = min(candidates, key=lambda one: one[0])  # of equals the nearest
    low, middle, high = (np.round(_BIAS_BASIS @ parameters[1:], _DIGITS) + 0.0).tolist()  # no -0.0
    return Calibration(
        temperature=float(np.round(1 / parameters[0], _DIGITS)),
        bias=(low, middle, high),
        floor=floor,
    )


def study_folds(grades: IntArray, *, folds: int = FOLDS, seed: int = 0) -> IntArray:
    """Deal studies out to folds so that each gets its share of severe and moderate ones.

    Args:
        grades: (N, any), with NO_GRADE where there is none.
        folds: at most N of them are used.
        seed: of what is left to chance.

    Returns:
        (N,) fold of each study, 0 to folds - 1.
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
) -> NDArray[np.float64]:
    """Probabilities of every study by a fit to the studies of the other folds.

    Args:
        peaks: (N, L, 3), NaN in a study that was not scored.
        grades: (N, L).
        aim: as in :func:`fit_group`.
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


def group_probabilities(peaks: FloatArray, calibration: Calibration) -> NDArray[np.float64]:
    """The runtime's formula on peaks by location, (N, L, 3) -> (N, L, 3)."""
    if not len(peaks):
        return np.empty(peaks.shape, np.float64)
    return probabilities(peaks.reshape(len(peaks), -1), calibration)


def calibrate_group(peaks: FloatArray, grades: IntArray, aim: Aim, fold_of: IntArray) -> GroupFit:
    """Fit, and adopt the fit where studies that it did not see show that it helps.

    It is adopted where there are LEAST_STUDIES studies and LEAST_CASES rows of each grade, and
    the cross-validated loss lies below that of plain division by more than one standard error
    over studies. The floor is part of each fit, so nothing but this yes or no sees all rows.

    Args: as in :func:`crossvalidated_probabilities`.
    """
    graded = _scored(peaks)[:, None] & (grades != NO_GRADE)
    fitted = fit_group(peaks, grades, aim)
    plain = group_probabilities(peaks, PLAIN)
    unseen = crossvalidated_probabilities(peaks, grades, aim, fold_of)
    before, after = (losses(one, grades, aim) for one in (plain, unseen))
    error = _standard_error(plain, unseen, grades, aim)
    studies = int(graded.any(axis=1).sum())
    too_few = _too_few(grades[graded], studies)
    reason = too_few or _no_gain(before, after, error)
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


def losses(given: FloatArray, grades: IntArray, aim: Aim) -> Losses | None:
    """Mean log loss and calibration error over the graded rows of scored studies, None without any.

    Args:
        given: (N, L, 3) probabilities, NaN in a study that was not scored.
        grades: (N, L).
        aim: whose weights the loss has.
    """
    rows = _graded_rows(given, grades, aim)
    if not len(rows.grades):
        return None
    loss = float(np.mean(rows.weights * _log_loss(rows.peaks, rows.grades)))
    return Losses(loss, classwise_calibration_error(rows.grades, rows.peaks))


def _graded_rows(values: FloatArray, grades: IntArray, aim: Aim) -> _Rows:
    graded = _scored(values)[:, None] & (grades != NO_GRADE)
    weights = np.array(AIM_WEIGHTS[aim])[grades[graded]]
    scale = weights.mean() if len(weights) else 1.0
    return _Rows(values[graded].astype(np.float64), grades[graded], weights / scale)


def _scored(values: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(values).any(axis=(1, 2)), np.bool_)


def _of_grade(given: NDArray[np.float64], grades: IntArray) -> NDArray[np.float64]:
    return np.asarray(given[np.arange(len(grades)), grades], np.float64)


def _log_loss(given: NDArray[np.float64], grades: IntArray) -> NDArray[np.float64]:
    """Clipped as the challenge's metric clips."""
    epsilon = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(_of_grade(given, grades), epsilon, 1 - epsilon)))


# The fit


def _floors_by_nearness() -> list[float]:
    return sorted(FLOORS, key=_floor_pull)


def _floor_pull(floor: float) -> float:
    return float(STRENGTH / 2 * np.log10(floor / PLAIN.floor) ** 2)


def _fit_at_floor(rows: _Rows, floor: float) -> tuple[float, NDArray[np.float64]]:
    """J at its minimum for this floor, and the parameters (a, u)."""
    scores = np.log(np.maximum(rows.peaks, floor))
    basis = np.broadcast_to(_BIAS_BASIS, (len(scores), *_BIAS_BASIS.shape))
    design = np.concatenate([scores[:, :, None], basis], axis=2)  # (R, 3 grades, 3 parameters)
    value, best = _newton(design, rows, _START, free=slice(0, 3))
    if not _SLOPES[0] <= best[0] <= _SLOPES[1]:  # convex: then the minimum lies on the bound
        edge = np.array([np.clip(best[0], *_SLOPES), 0.0, 0.0])
        value, best = _newton(design, rows, edge, free=slice(1, 3))
    return value + _floor_pull(floor), best


def _newton(
    design: NDArray[np.float64], rows: _Rows, start: NDArray[np.float64], *, free: slice
) -> tuple[float, NDArray[np.float64]]:
    """Minimise over the free parameters; steps are halved until J falls."""
    found = start.copy()
    value, slope, curvature = _derivatives(design, rows, found)
    for _ in range(_MOST_STEPS):
        step = np.zeros_like(found)
        step[free] = np.linalg.solve(curvature[free, free], slope[free])
        decrease = float(slope @ step)  # twice what a parabola would still fall
        if decrease <= 1e-12 * (1 + abs(value)):
            break
        while (trial := _derivatives(design, rows, found - step))[0] > value - 0.1 * decrease:
            step, decrease = step / 2, decrease / 2
            if decrease <= 1e-13 * (1 + abs(value)):  # rounding: no lower value to be had
                return value, found
        found, (value, slope, curvature) = found - step, trial
    return value, found


def _derivatives(
    design: NDArray[np.float64], rows: _Rows, parameters: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """J without the floor's part, its gradient (3,) and its Hessian (3, 3)."""
    scores = np.einsum("rkp,p->rk", design, parameters)
    scores -= scores.max(axis=1, keepdims=True)
    total = np.exp(scores).sum(axis=1, keepdims=True)
    given = np.exp(scores) / total  # (R, 3)
    of_grade = np.arange(len(given)), rows.grades
    mean = np.einsum("rk,rkp->rp", given, design)
    pull = parameters - _START
    value = rows.weights @ (np.log(total[:, 0]) - scores[of_grade]) + STRENGTH / 2 * pull @ pull
    slope = rows.weights @ (mean - design[of_grade]) + STRENGTH * pull
    weighted = rows.weights[:, None] * given
    curvature = np.einsum("rk,rkp,rkq->pq", weighted, design, design)
    curvature -= np.einsum("r,rp,rq->pq", rows.weights, mean, mean)
    return float(value), slope, curvature + STRENGTH * np.eye(len(parameters))


# The safeguard


def _too_few(grades: IntArray, studies: int) -> str:
    cases = np.bincount(grades, minlength=len(GRADES))
    if studies < LEAST_STUDIES:
        return (
            f"studies with peaks and a graded row: {studies}, at least {LEAST_STUDIES} are needed"
        )
    if cases.min() < LEAST_CASES:
        return f"{GRADES[cases.argmin()]} rows: {cases.min()}, at least {LEAST_CASES} are needed"
    return ""


def _no_gain(before: Losses | None, after: Losses | None, error: float | None) -> str:
    if before is None or after is None or error is None:
        return "there is too little to compare"
    if before.loss - after.loss > error:
        return ""
    return (
        f"on unseen studies the fit's loss {after.loss:.4f} is not below {before.loss:.4f} "
        f"by more than one standard error ({error:.4f})"
    )


def _standard_error(
    before: FloatArray, after: FloatArray, grades: IntArray, aim: Aim
) -> float | None:
    """Of the difference of the mean losses, which are ratios of sums over studies.

    With d[s] the weighted difference and v[s] the weight of study s, and D = sum d / sum v:
    sqrt(S / (S - 1) * sum (d[s] - D v[s])^2) / sum v. None for a single study.
    """
    graded = _scored(before)[:, None] & (grades != NO_GRADE)
    study = np.nonzero(graded)[0]
    rows = _graded_rows(before, grades, aim)
    gained = _log_loss(rows.peaks, rows.grades) - _log_loss(
        _graded_rows(after, grades, aim).peaks, rows.grades
    )
    of_study = np.bincount(study, rows.weights * gained, len(grades))
    weight = np.bincount(study, rows.weights, len(grades))
    count = len(np.unique(study))
    if count < 2:
        return None
    spread = of_study - of_study.sum() / weight.sum() * weight
    return float(np.sqrt(count / (count - 1) * np.sum(spread**2)) / weight.sum())
