"""Sensitivity and specificity of severe, on small cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsna_lumbar.runtime.core.labels import (
    CONDITIONS,
    FORAMINAL,
    GRADE_WEIGHTS,
    GROUPS,
    LEVELS,
    SEVERE,
    SUBARTICULAR,
)
from rsna_lumbar.runtime.core.metric import NO_GRADE, GradedAnswers
from rsna_lumbar.train.evaluation.diagnostics import diagnose
from rsna_lumbar.train.evaluation.severe import SevereReport, severe_reports

NONE = SevereReport(0, 0, None, None)
LIKELIEST = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])


def answers_of(grade: np.ndarray, likeliest: np.ndarray) -> GradedAnswers:
    """Shapes (S, 25): labelled and likeliest grades."""
    return GradedAnswers(tuple(map(str, range(len(grade)))), grade, LIKELIEST[likeliest])


def test_no_row_has_no_figures() -> None:
    empty = np.full((1, 25), NO_GRADE)
    found = severe_reports(answers_of(empty, np.zeros((1, 25), int)))
    assert set(found) == {*CONDITIONS, *(group.name for group in GROUPS)}
    for by_level in found.values():
        assert by_level == dict.fromkeys((*LEVELS, "all"), NONE)


def test_by_hand() -> None:
    """Left foraminal L1/L2: severe told, severe not told, moderate told severe, normal told so.
    Right foraminal L1/L2: a severe one told. Left foraminal L5/S1: two normal ones, none told."""
    grade, likeliest = np.full((4, 25), NO_GRADE), np.zeros((4, 25), int)
    grade[:, 5], likeliest[:, 5] = [2, 2, 1, 0], [2, 1, 2, 0]
    grade[:1, 10], likeliest[:1, 10] = 2, 2
    grade[:2, 9], likeliest[:2, 9] = 0, 1
    found = severe_reports(answers_of(grade, likeliest))
    left, right = (found[condition] for condition in FORAMINAL.conditions)
    assert left["l1_l2"] == SevereReport(2, 2, 0.5, 0.5)
    assert left["l5_s1"] == SevereReport(0, 2, None, 1.0)
    assert left["all"] == SevereReport(2, 4, 0.5, 0.75)
    assert right["l1_l2"] == right["all"] == SevereReport(1, 0, 1.0, None)
    assert found["foraminal"]["l1_l2"] == SevereReport(3, 2, pytest.approx(2 / 3), 0.5)
    assert found["foraminal"]["all"] == SevereReport(3, 4, pytest.approx(2 / 3), 0.75)
    assert found["spinal"]["all"] == found["subarticular"]["l5_s1"] == NONE


def test_where_severe_ties_it_is_not_told() -> None:
    grade = np.full((1, 25), 2)
    probability = np.tile([0.2, 0.4, 0.4], (1, 25, 1))
    found = severe_reports(GradedAnswers(("1",), grade, probability))
    assert found["spinal"]["all"] == SevereReport(5, 0, 0.0, None)


def test_only_the_groups_of_the_answers_are_reported() -> None:
    answers = GradedAnswers(
        ("1",), np.full((1, 25), 2), np.full((1, 25, 3), np.nan), groups=(SUBARTICULAR,)
    )
    answers.probability[:, 15:] = LIKELIEST[2]
    found = severe_reports(answers)
    assert set(found) == {*SUBARTICULAR.conditions, "subarticular"}
    assert found["subarticular"]["all"] == SevereReport(10, 0, 1.0, None)


def test_pooled_figures_agree_with_the_confusion_of_a_group() -> None:
    rng = np.random.default_rng(6)
    grade, likeliest = rng.integers(-1, 3, (2, 40, 25))
    answers = answers_of(grade, likeliest)
    found, groups = severe_reports(answers), diagnose(answers).groups
    for group in GROUPS:
        report, counts = found[group.name]["all"], np.array(groups[group.name].confusion)
        assert report.severe + report.other == groups[group.name].rows
        assert report.sensitivity == groups[group.name].grades[SEVERE].recall
        assert report.specificity == pytest.approx(counts[:2, :2].sum() / counts[:2].sum(), 1e-15)
        sides = [found[condition] for condition in group.conditions]
        for level in (*LEVELS, "all"):
            assert found[group.name][level].severe == sum(side[level].severe for side in sides)
            assert found[group.name][level].other == sum(side[level].other for side in sides)


@given(st.lists(st.integers(1, 1000), min_size=3, max_size=3))
def test_the_threshold_of_weighted_probabilities_is_as_documented(counts: list[int]) -> None:
    """Below 1/7 of the plain probability never, above 1/3 always; plain ones 1/3 and 1/2."""
    plain = np.array(counts) / sum(counts)
    weighted = plain * GRADE_WEIGHTS
    told = weighted.argmax() == SEVERE
    assert told == (plain[2] > plain[1] / 2 and plain[2] > plain[0] / 4) or np.isclose(
        weighted[2], weighted[:2].max()
    )
    assert not told or plain[2] > 1 / 7 - 1e-12
    assert told or plain[2] <= 1 / 3 + 1e-12
    assert plain.argmax() == SEVERE or plain[2] <= 1 / 2
    assert plain.argmax() != SEVERE or plain[2] > 1 / 3 - 1e-12
