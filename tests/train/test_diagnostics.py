"""What stands beside the score, on small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsna_lumbar.runtime.core.labels import GRADE_WEIGHTS, GRADES, GROUPS, LEVELS
from rsna_lumbar.runtime.core.metric import NO_GRADE, GradedAnswers, score_answers
from rsna_lumbar.train.evaluation.diagnostics import (
    BINS,
    Bin,
    GroupReport,
    calibration_error,
    confusion_matrix,
    diagnose,
    group_report,
    reliability,
)


def answers_of(grade: np.ndarray, probability: np.ndarray) -> GradedAnswers:
    studies = tuple(str(index) for index in range(len(grade)))
    return GradedAnswers(studies, np.asarray(grade, np.int64), probability)


def drawn(seed: int, studies: int, empty: float = 0.1) -> GradedAnswers:
    rng = np.random.default_rng(seed)
    grade = rng.choice(3, (studies, 25), p=[0.7, 0.2, 0.1])
    grade[rng.random(grade.shape) < empty] = NO_GRADE
    grade[0, [0, 5, 15]] = 2  # each group has one
    return answers_of(grade, rng.dirichlet([1, 1, 1], (studies, 25)))


def test_no_row_has_no_figures() -> None:
    report = group_report(np.zeros(0, np.int64), np.zeros((0, 3)))
    assert (report.rows, report.calibration_error) == (0, None)
    assert report.confusion == ((0, 0, 0),) * 3
    for grade in report.grades:
        assert (grade.count, grade.loss, grade.recall) == (0, None, None)
        assert (grade.precision, grade.calibration_error) == (None, None)
        assert grade.reliability == (Bin(0, None, None),) * BINS


def test_confusion_has_labels_in_rows() -> None:
    grade = np.array([0, 0, 2])
    probability = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    assert confusion_matrix(grade, probability).tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_of_two_that_tie_the_milder_is_the_likeliest() -> None:
    assert confusion_matrix(np.array([2]), np.array([[0.2, 0.4, 0.4]]))[2].tolist() == [0, 1, 0]


def test_recall_precision_and_loss_by_hand() -> None:
    """Labelled 0 0 1, likeliest 0 1 1."""
    report = group_report(
        np.array([0, 0, 1]), np.array([[0.5, 0.3, 0.2], [0.25, 0.5, 0.25], [0.1, 0.8, 0.1]])
    )
    normal, moderate, severe = report.grades
    assert (normal.count, normal.recall, normal.precision) == (2, 0.5, 1.0)
    assert normal.loss == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-15)
    assert (moderate.count, moderate.recall, moderate.precision) == (1, 1.0, 0.5)
    assert (severe.count, severe.loss, severe.recall, severe.precision) == (0, None, None, None)


def test_bins_hold_their_lower_bound_and_the_last_both() -> None:
    bins = reliability(np.array([0.0, 0.1, 0.15, 0.5, 1.0]), np.array([True, True, False, 0, 1]))
    assert [found.count for found in bins] == [1, 2, 0, 0, 0, 1, 0, 0, 0, 1]
    assert bins[1] == Bin(2, 0.125, 0.5)
    assert bins[9] == Bin(1, 1.0, 1.0)


def test_calibration_error_by_hand() -> None:
    """Three rows of 0.25, one of which is so; one row of 0.75 that is not: by rows of four."""
    bins = reliability(np.array([0.25, 0.25, 0.25, 0.75]), np.array([True, False, False, False]))
    expected = (3 * (1 / 3 - 0.25) + 1 * 0.75) / 4
    assert calibration_error(bins) == pytest.approx(expected, rel=1e-14)


def test_shares_that_come_true_have_no_error() -> None:
    """Of ten rows that say 0.7, 0.2, 0.1, seven, two and one are so."""
    grade = np.repeat([0, 1, 2], [7, 2, 1])
    report = group_report(grade, np.tile([0.7, 0.2, 0.1], (10, 1)))
    assert report.calibration_error == pytest.approx(0, abs=1e-15)


def test_the_weighted_optimum_is_not_calibrated() -> None:
    """Weights 1/2/4 turn 0.7, 0.2, 0.1 into 7, 4, 4 fifteenths: 7/30, 1/15 and 1/6 off."""
    grade = np.repeat([0, 1, 2], [7, 2, 1])
    report = group_report(grade, np.tile(np.array([7, 4, 4]) / 15, (10, 1)))
    assert [grade.calibration_error for grade in report.grades] == pytest.approx(
        [7 / 30, 1 / 15, 1 / 6], rel=1e-12
    )
    assert report.calibration_error == pytest.approx((7 / 30 + 1 / 15 + 1 / 6) / 3, rel=1e-12)


def weighted(report: GroupReport) -> tuple[float, float]:
    """Sums of weight * loss and of weight over the rows of a report."""
    pairs = [
        (weight * grade.count * (grade.loss or 0.0), weight * grade.count)
        for weight, grade in zip(GRADE_WEIGHTS, report.grades, strict=True)
    ]
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([0.0, 0.2, 0.9]))
def test_every_figure_adds_up_to_the_metric(seed: int, studies: int, empty: float) -> None:
    answers = drawn(seed, studies, empty)
    result, found = score_answers(answers), diagnose(answers)
    for group in GROUPS:
        report = found.groups[group.name]
        total, weight = weighted(report)
        assert total / weight == pytest.approx(getattr(result, group.name), rel=1e-12)
        assert np.sum(report.confusion) == report.rows
        for index, grade in enumerate(report.grades):
            assert sum(report.confusion[index]) == grade.count
            assert sum(found.count for found in grade.reliability) == report.rows
    sums = np.sum([found.groups[group.name].confusion for group in GROUPS], axis=0)
    assert found.groups["all"].confusion == tuple(map(tuple, sums.tolist()))
    total, weight = weighted(found.groups["all"])
    by_level = [
        (found.levels[level]["all"], weighted(group_report(*level_rows(answers, place)))[1])
        for place, level in enumerate(LEVELS)
    ]
    parts = [loss * part for loss, part in by_level if loss is not None]
    assert sum(parts) == pytest.approx(total, rel=1e-12)


def level_rows(answers: GradedAnswers, level: int) -> tuple[np.ndarray, np.ndarray]:
    grade, probability = answers.grade[:, level::5], answers.probability[:, level::5]
    return grade[grade != NO_GRADE], probability[grade != NO_GRADE]


def test_a_level_pools_its_sides_and_may_be_empty() -> None:
    grade = np.full((1, 25), NO_GRADE)
    grade[0, [0, 5, 10, 15]] = [0, 2, 0, 1]  # L1/L2: spinal, left and right foraminal, subarticular
    probability = np.tile([0.5, 0.25, 0.25], (1, 25, 1))
    levels = diagnose(answers_of(grade, probability)).levels
    assert levels["l1_l2"] == pytest.approx(
        {
            "spinal": np.log(2),
            "foraminal": (4 * np.log(4) + np.log(2)) / 5,
            "subarticular": np.log(4),
            "all": (np.log(2) + 4 * np.log(4) + np.log(2) + 2 * np.log(4)) / 8,
        },
        rel=1e-14,
    )
    assert levels["l5_s1"] == dict.fromkeys(("spinal", "foraminal", "subarticular", "all"))


def test_grades_are_reported_in_their_order() -> None:
    report = diagnose(drawn(0, 3)).groups["all"]
    assert len(report.grades) == len(GRADES)
