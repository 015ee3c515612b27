"""The fit against what it was drawn from and a slow search; the safeguard; calibration error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsna_lumbar.runtime.core.metric import NO_GRADE
from rsna_lumbar.runtime.core.postprocess import MINIMUM_TEMPERATURE, Calibration, probabilities
from rsna_lumbar.train.calibration.fit_group import (
    AIM_WEIGHTS,
    FLOORS,
    LEAST_STUDIES,
    MAXIMUM_TEMPERATURE,
    PLAIN,
    STRENGTH,
    Aim,
    calibrate_group,
    crossvalidated_probabilities,
    fit_group,
    group_probabilities,
    losses,
    study_folds,
)

AIMS: tuple[Aim, ...] = ("metric", "probability")
TRUTH = Calibration(temperature=0.6, bias=(0.7, -0.3, -0.4))


def draw(
    truth: Calibration, studies: int, seed: int, locations: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Peaks (N, L, 3) between 1e-3 and 1, and grades that follow ``truth`` given the peaks."""
    rng = np.random.default_rng(seed)
    peaks = 10 ** rng.uniform([-1, -2, -3], [0, -0.5, -0.5], (studies, locations, 3))
    chances = group_probabilities(peaks, truth).cumsum(axis=2)
    grades = (rng.random((studies, locations, 1)) > chances).sum(axis=2)
    return peaks, np.minimum(grades, 2)


def noise(studies: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grades at realistic frequencies that the peaks know nothing of."""
    rng = np.random.default_rng(seed)
    peaks = 10 ** rng.uniform(-3, 0, (studies, 5, 3))
    return peaks, rng.choice(3, (studies, 5), p=[0.7, 0.17, 0.13])


def penalised(calibration: Calibration, peaks: np.ndarray, grades: np.ndarray, aim: Aim) -> float:
    """J row by row, as the module's docstring has it."""
    weights = [AIM_WEIGHTS[aim][grade] for grade in grades.ravel() if grade != NO_GRADE]
    total = 0.0
    for peak, grade in zip(peaks.reshape(-1, 3), grades.ravel(), strict=True):
        if grade != NO_GRADE:
            [row] = probabilities(peak, calibration)
            total -= AIM_WEIGHTS[aim][grade] / np.mean(weights) * np.log(row[grade])
    pull = (1 / calibration.temperature - 1) ** 2 + sum(b * b for b in calibration.bias)
    return float(total + STRENGTH / 2 * (pull + np.log10(calibration.floor / PLAIN.floor) ** 2))


@pytest.mark.parametrize("aim", AIMS)
def test_the_fit_finds_what_the_grades_were_drawn_with(aim: Aim) -> None:
    """Weights multiply the odds, so for the metric's aim the bias is the truth's plus log w."""
    peaks, grades = draw(TRUTH, 4000, seed=1)
    fitted = fit_group(peaks, grades, aim)
    expected = np.array(TRUTH.bias) + np.log(AIM_WEIGHTS[aim])
    assert fitted.temperature == pytest.approx(TRUTH.temperature, rel=0.05)
    np.testing.assert_allclose(fitted.bias, expected - expected.mean(), atol=0.1)


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_on_a_grid_is_better(aim: Aim, seed: int) -> None:
    peaks, grades = draw(TRUTH, 8, seed)
    grades[0, :2] = NO_GRADE
    fitted = fit_group(peaks, grades, aim)
    best = penalised(fitted, peaks, grades, aim)
    assert sum(fitted.bias) == pytest.approx(0, abs=1e-5)
    assert best <= penalised(PLAIN, peaks, grades, aim)
    near = [
        Calibration(fitted.temperature * scale, (b0 + d0, b1 + d1, b2), fitted.floor)
        for b0, b1, b2 in [fitted.bias]
        for scale in (0.97, 1, 1.03)
        for d0 in (-0.03, 0, 0.03)
        for d1 in (-0.03, 0, 0.03)
    ]
    far = [
        Calibration(temperature, (-b1 - b2, b1, b2), floor)
        for temperature in (0.3, 0.6, 1.2)
        for b1 in (-0.8, 0, 0.8)
        for b2 in (-0.8, 0, 0.8)
        for floor in FLOORS
    ]
    for other in near + far:  # 1e-9: what is left of rounding T and b to six digits
        assert penalised(other, peaks, grades, aim) >= best - 1e-9


def test_a_floor_is_found_where_small_peaks_mean_nothing() -> None:
    """Grades follow the peaks above 1e-2; below, the size of a peak is noise."""
    rng = np.random.default_rng(0)
    truth = Calibration(0.8, floor=1e-2)
    peaks = 10 ** rng.uniform(-6, 0, (1000, 5, 3))
    chances = group_probabilities(peaks, truth).cumsum(axis=2)
    grades = (rng.random((1000, 5, 1)) > chances).sum(axis=2).clip(max=2)
    fitted = fit_group(peaks, grades, "probability")
    assert fitted.floor == truth.floor
    assert fitted.temperature == pytest.approx(0.8, rel=0.1)


def test_no_rows_give_plain_division() -> None:
    peaks, grades = draw(TRUTH, 4, seed=0)
    assert fit_group(peaks[:0], grades[:0], "metric") == PLAIN
    assert fit_group(peaks, np.full_like(grades, NO_GRADE), "metric") == PLAIN
    assert fit_group(np.full_like(peaks, np.nan), grades, "metric") == PLAIN


@pytest.mark.parametrize("aim", AIMS)
def test_temperature_stays_in_its_bounds(aim: Aim) -> None:
    """Peaks that name the grade call for no temperature, peaks that name another for infinity."""
    grades = np.arange(6000).reshape(-1, 5) % 3
    right = np.where(np.arange(3) == grades[:, :, None], 0.50, 0.45)
    wrong = np.where(np.arange(3) == grades[:, :, None], 0.001, 0.9)
    sharp, flat = (fit_group(peaks, grades, aim).temperature for peaks in (right, wrong))
    assert sharp == MINIMUM_TEMPERATURE
    assert flat == MAXIMUM_TEMPERATURE


@given(st.integers(0, 10_000), st.sampled_from(AIMS))
@settings(max_examples=15, deadline=None)
def test_order_and_what_has_no_label_do_not_matter(seed: int, aim: Aim) -> None:
    peaks, grades = draw(TRUTH, 20, seed)
    expected = fit_group(peaks, grades, aim)
    rng = np.random.default_rng(seed)
    order, places = rng.permutation(20), rng.permutation(5)
    unlabelled = np.full((3, 5), NO_GRADE)
    other = fit_group(
        np.concatenate([peaks[order][:, places], peaks[:3], np.full((2, 5, 3), np.nan)]),
        np.concatenate([grades[order][:, places], unlabelled, grades[:2]]),
        aim,
    )
    assert other.floor == expected.floor
    assert other.temperature == pytest.approx(expected.temperature, abs=2e-6)
    assert other.bias == pytest.approx(expected.bias, abs=2e-6)


@given(st.integers(0, 60), st.integers(1, 7), st.integers(0, 99))
@settings(deadline=None)
def test_folds_are_even_in_size_and_severity(studies: int, folds: int, seed: int) -> None:
    grades = np.random.default_rng(seed).choice([NO_GRADE, 0, 1, 2], (studies, 5))
    fold_of = study_folds(grades, folds=folds, seed=seed)
    np.testing.assert_array_equal(fold_of, study_folds(grades, folds=folds, seed=seed))
    count = min(folds, studies)
    sizes = np.bincount(fold_of, minlength=count)
    assert len(sizes) == count
    if count:
        assert sizes.max() - sizes.min() <= 1
        severe = np.bincount(fold_of, (grades == 2).sum(axis=1), count)
        assert severe.max() - severe.min() <= (grades == 2).sum(axis=1).max(initial=0)


def test_no_study_sees_its_own_grades() -> None:
    """Turning all grades of a fold around leaves its own probabilities, and moves the others."""
    peaks, grades = draw(TRUTH, 20, seed=2)
    fold_of = study_folds(grades)
    expected = crossvalidated_probabilities(peaks, grades, "metric", fold_of)
    inside = fold_of == 3
    turned = np.where(inside[:, None], 2 - grades, grades)
    found = crossvalidated_probabilities(peaks, turned, "metric", fold_of)
    np.testing.assert_array_equal(found[inside], expected[inside])
    assert np.all(np.any(found[~inside] != expected[~inside], axis=(1, 2)))


@pytest.mark.parametrize("aim", AIMS)
def test_what_helps_on_unseen_studies_is_adopted(aim: Aim) -> None:
    peaks, grades = draw(TRUTH, 60, seed=3)
    fit = calibrate_group(peaks, grades, aim, study_folds(grades))
    assert fit.adopted
    assert fit.calibration == fit.fitted == fit_group(peaks, grades, aim)
    assert (fit.rows, fit.studies) == (300, 60)
    assert fit.after == fit.crossvalidated
    unseen = crossvalidated_probabilities(peaks, grades, aim, study_folds(grades))
    assert fit.crossvalidated == losses(unseen, grades, aim)


def test_the_standard_error_is_that_of_the_studies() -> None:
    """Equal weights and rows: the spread of the studies' mean differences over sqrt(S)."""
    peaks, grades = draw(TRUTH, 30, seed=4)
    fold_of = study_folds(grades)
    fit = calibrate_group(peaks, grades, "probability", fold_of)
    before = group_probabilities(peaks, PLAIN)
    after = crossvalidated_probabilities(peaks, grades, "probability", fold_of)
    at = grades[:, :, None]
    gain = np.log(np.take_along_axis(after, at, 2) / np.take_along_axis(before, at, 2))
    expected = gain.mean(axis=(1, 2)).std(ddof=1) / np.sqrt(30)
    assert fit.standard_error == pytest.approx(expected, rel=1e-9)


def test_too_few_studies_keep_plain_division() -> None:
    peaks, grades = draw(TRUTH, LEAST_STUDIES + 1, seed=5)
    enough = calibrate_group(peaks[1:], grades[1:], "metric", study_folds(grades[1:]))
    assert "studies with" not in enough.kept_plain
    peaks[:2] = np.nan
    fit = calibrate_group(peaks, grades, "metric", study_folds(grades))
    assert fit.calibration == PLAIN != fit.fitted
    assert fit.kept_plain == "studies with peaks and a graded row: 9, at least 10 are needed"
    assert fit.after == fit.plain


@pytest.mark.parametrize("studies", [0, 1])
def test_next_to_nothing_keeps_plain_division(studies: int) -> None:
    peaks, grades = draw(TRUTH, studies, seed=5)
    fit = calibrate_group(peaks, grades, "metric", study_folds(grades))
    assert (fit.calibration, fit.studies, fit.standard_error) == (PLAIN, studies, None)
    assert (fit.after is None) == (studies == 0)


def test_too_few_cases_of_a_grade_keep_plain_division() -> None:
    peaks, grades = draw(TRUTH, 40, seed=6)
    grades[grades == 2] = 1
    grades[:4, 0] = 2
    fit = calibrate_group(peaks, grades, "metric", study_folds(grades))
    assert fit.kept_plain == "severe rows: 4, at least 5 are needed"


def test_a_fit_without_a_clear_gain_is_not_adopted() -> None:
    """The peaks are calibrated already: nothing to gain but noise."""
    found = []
    for seed in range(10):
        peaks, grades = draw(PLAIN, 40, seed)
        found.append(calibrate_group(peaks, grades, "probability", study_folds(grades)))
    assert sum(not fit.adopted for fit in found) >= 8
    assert any("not below" in fit.kept_plain for fit in found)


@pytest.mark.parametrize("aim", AIMS)
@pytest.mark.parametrize("source", ["noise", "calibrated"])
def test_small_sets_do_not_spoil_unseen_studies(aim: Aim, source: str) -> None:
    """12 studies whose peaks mean nothing, or nothing more than plain division says."""
    ratios = []
    for seed in range(20):
        few, many = (
            noise(count, seed + offset) if source == "noise" else draw(PLAIN, count, seed + offset)
            for count, offset in ((12, 0), (1000, 1000))
        )
        fit = calibrate_group(*few, aim, study_folds(few[1]))
        plain, after = (
            losses(group_probabilities(many[0], one), many[1], aim)
            for one in (PLAIN, fit.calibration)
        )
        assert plain is not None and after is not None
        ratios.append(after.loss / plain.loss)
    assert np.mean(ratios) <= 1.02
    assert max(ratios) <= 1.1
