"""The table of classes and rows, against the spelling of the challenge's files."""

from __future__ import annotations

from rsna_lumbar.runtime.core.labels import (
    CONDITIONS,
    FORAMINAL,
    GROUPS,
    LOCATIONS,
    ROW_LOCATIONS,
    SPINAL,
    SUBARTICULAR,
    condition_title,
    level_title,
    row_id,
)


def test_class_counts_are_15_30_30() -> None:
    assert [len(group.classes) for group in GROUPS] == [15, 30, 30]
    assert len(LOCATIONS) == 25


def test_class_names_are_the_challenges() -> None:
    assert SPINAL.classes[0] == "spinal_canal_stenosis_l1_l2_normal_mild"
    assert FORAMINAL.classes[2] == "left_neural_foraminal_narrowing_l1_l2_severe"
    assert SUBARTICULAR.classes[-1] == "right_subarticular_stenosis_l5_s1_severe"


def test_grade_varies_fastest_then_level() -> None:
    for group in GROUPS:
        for index, (condition, level) in enumerate(group.locations):
            assert group.classes[3 * index] == f"{condition}_{level}_normal_mild"


def test_rows_come_in_the_order_of_the_sample_submission() -> None:
    rows = [row_id("44036939", condition, level) for condition, level in ROW_LOCATIONS]
    assert rows == sorted(rows)
    assert rows[0] == "44036939_left_neural_foraminal_narrowing_l1_l2"
    assert rows[-1] == "44036939_spinal_canal_stenosis_l5_s1"


def test_titles_are_those_of_the_coordinate_table() -> None:
    assert [condition_title(name) for name in CONDITIONS] == [
        "Spinal Canal Stenosis",
        "Left Neural Foraminal Narrowing",
        "Right Neural Foraminal Narrowing",
        "Left Subarticular Stenosis",
        "Right Subarticular Stenosis",
    ]
    assert level_title("l5_s1") == "L5/S1"
