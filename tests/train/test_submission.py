"""Which rows of a submission are refused, and how they are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsna_lumbar.runtime.core.errors import DataError
from rsna_lumbar.runtime.core.labels import GRADES, GROUPS, LOCATIONS, SPINAL
from rsna_lumbar.train.evaluation.submission import BadRows, SubmissionError, read_answers

SUFFIXES = ["_".join(location) for location in LOCATIONS]
STUDIES = ("5", "41")
NAN, INFINITY = float("nan"), float("inf")


def rows_of(*studies: str) -> pd.DataFrame:
    """Rows that can be told apart: (0.5, 0.5 - k / 1000, k / 1000) for the k-th."""
    names = [f"{study}_{suffix}" for study in studies for suffix in SUFFIXES]
    share = np.arange(len(names)) / 1000
    table = pd.DataFrame({"row_id": names, "normal_mild": 0.5, "moderate": 0.5 - share})
    return table.assign(severe=share)


def with_values(*values: float | str) -> pd.DataFrame:
    """One row, the fourth, says something else."""
    table = rows_of(*STUDIES).astype(dict.fromkeys(GRADES, object))
    table.loc[3, list(GRADES)] = list(values)
    return table


def refused(table: pd.DataFrame) -> tuple[BadRows, ...]:
    with pytest.raises(SubmissionError) as caught:
        read_answers(table, STUDIES)
    return caught.value.bad_rows


def test_no_study_needs_no_row() -> None:
    answers = read_answers(rows_of(), ())
    assert answers.probability.shape == (0, 25, 3)
    assert answers.ignored == 0


def test_answers_come_in_the_order_of_the_studies_and_locations() -> None:
    table = rows_of(*STUDIES).sample(frac=1, random_state=1)
    found = read_answers(table, STUDIES).probability
    np.testing.assert_array_equal(found[..., 2], np.arange(50).reshape(2, 25) / 1000)
    turned = read_answers(table, STUDIES[::-1]).probability
    np.testing.assert_array_equal(turned, found[::-1])


def test_groups_without_a_row_are_not_answered() -> None:
    """As rsna-run writes it with a bundle that lacks detectors."""
    table = rows_of("7", *STUDIES)
    of_other = table[table["row_id"].str.contains("^7_|spinal")]
    for partial in (of_other.iloc[25:], of_other):
        found = read_answers(partial, STUDIES, others=("7",))
        assert found.groups == (SPINAL,)
        np.testing.assert_array_equal(found.probability[0, :5, 2], np.arange(25, 30) / 1000)
        assert np.isnan(found.probability[:, 5:]).all()
    assert read_answers(table, STUDIES, others=("7",)).groups == GROUPS


def test_a_group_with_some_of_its_rows_is_refused() -> None:
    """One side of one study; and what a group lacks that is not there is not counted."""
    table = rows_of(*STUDIES)
    one_side = table["row_id"].str.contains("41_left_neural")
    (missing,) = refused(table[~one_side])
    assert (missing.fault, missing.count) == ("missing", 5)
    (missing,) = refused(table[~one_side & ~table["row_id"].str.contains("spinal")])
    assert (missing.fault, missing.count) == ("missing", 5)
    (missing,) = refused(table[table["row_id"].str.contains("41_left_neural")])
    assert (missing.fault, missing.count) == ("missing", 15)


def test_a_submission_without_any_row_is_refused() -> None:
    (missing,) = refused(rows_of())
    assert (missing.fault, missing.count) == ("missing", 50)


def test_text_reads_as_the_numbers_it_was_written_from() -> None:
    table = rows_of(*STUDIES)
    text = table.astype(dict.fromkeys(GRADES, str))
    np.testing.assert_array_equal(
        read_answers(text, STUDIES).probability, read_answers(table, STUDIES).probability
    )


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("float32", "float32", "float32"), "float32"),
        (("float32", "float64", "float32"), "float64"),
        (("float64", "float64", "float64"), "float64"),
        (("float64", "Float64", "object"), "float64"),
    ],
)
def test_single_precision_stays_what_it_is(dtypes: tuple[str, ...], expected: str) -> None:
    table = rows_of(*STUDIES).astype(dict(zip(GRADES, dtypes, strict=True)))
    assert read_answers(table, STUDIES).probability.dtype == expected


FOURTH = "5_spinal_canal_stenosis_l4_l5"


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        ((NAN, 0.5, 0.5), ["not_a_number"]),
        (("high", 0.5, 0.5), ["not_a_number"]),
        (("", 0.5, 0.5), ["not_a_number"]),
        ((None, 0.5, 0.5), ["not_a_number"]),
        ((INFINITY, 0.5, 0.5), ["infinite"]),
        ((-INFINITY, INFINITY, 0.5), ["infinite"]),
        ((-0.5, 1.0, 0.5), ["negative"]),
        ((-0.5, 1.2, 0.3), ["negative", "above_one"]),
        ((1.5, 0.0, 0.0), ["above_one", "sum"]),
        ((1e308, 1e308, 0.0), ["above_one", "sum"]),
        ((0.5, 0.5, 0.5), ["sum"]),
        ((0.0, 0.0, 0.0), ["sum"]),
        ((0.5, 0.5, 2e-5), ["sum"]),
    ],
)
def test_a_bad_value_is_named(values: tuple[float | str, ...], faults: list[str]) -> None:
    found = refused(with_values(*values))
    assert found == tuple(BadRows(fault, 1, (FOURTH,)) for fault in faults)


@pytest.mark.parametrize("values", [(0.5, 0.5, 9e-6), (1.000001, 0.0, 0.0), (1, 0, 0)])
def test_rounding_is_no_fault(values: tuple[float, ...]) -> None:
    found = read_answers(with_values(*values), STUDIES).probability
    np.testing.assert_array_equal(found[0, 3], np.array(values, np.float64))


def test_a_row_that_stands_three_times_is_one_id() -> None:
    table = rows_of(*STUDIES)
    (found,) = refused(pd.concat([table, table.iloc[[3]], table.iloc[[3]]]))
    assert found == BadRows("duplicate", 1, (FOURTH,))
    assert str(found) == f"the submission has rows more than once: 1, such as {FOURTH}"


@pytest.mark.parametrize("name", ["6_spinal_canal_stenosis_l4_l5", "5_neck_l4_l5", "", None])
def test_an_unknown_id_is_named_and_the_missing_one_too(name: str | None) -> None:
    table = rows_of(*STUDIES).astype({"row_id": object})
    table.loc[3, "row_id"] = name
    unknown, missing = refused(table)
    assert (unknown.fault, unknown.count) == ("unknown", 1)
    assert missing == BadRows("missing", 1, (FOURTH,))


def test_rows_of_other_studies_are_unknown_unless_they_are_known() -> None:
    table = rows_of("7", *STUDIES)
    assert [bad.fault for bad in refused(table)] == ["unknown"]
    answers = read_answers(table, STUDIES, others=("7", "8"))
    assert answers.ignored == 25
    np.testing.assert_array_equal(answers.probability[0, :, 2], np.arange(25, 50) / 1000)


def test_what_ignored_rows_say_does_not_matter() -> None:
    table = pd.concat([rows_of(*STUDIES), rows_of("7").assign(severe=9.0)])
    assert read_answers(table, STUDIES, others=("7",)).ignored == 25


def test_examples_are_three_at_most() -> None:
    (found,) = refused(rows_of("41"))
    assert found.count == 25
    assert len(found.examples) == 3
    assert str(found).startswith("the submission lacks rows (")
    assert "25, such as 5_" in str(found)


@pytest.mark.parametrize("lacking", [["severe"], ["row_id"], ["normal_mild", "moderate"]])
def test_wrong_columns_are_one_line(lacking: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read_answers(rows_of(*STUDIES).drop(columns=lacking), STUDIES)
    assert f"lacks the column {', '.join(lacking)};" in str(caught.value)


def spoiled(table: pd.DataFrame, faults: set[str]) -> pd.DataFrame:
    """Each fault in a row of its own, twice."""
    values = {
        "not_a_number": [NAN, 0.5, 0.5],
        "infinite": [INFINITY, 0.5, 0.5],
        "negative": [-0.5, 1.0, 0.5],
        "above_one": [1.5, -0.5, 0.0],
        "sum": [0.1, 0.1, 0.1],
    }
    for place, (fault, bad) in enumerate(values.items()):
        if fault in faults:
            table.loc[[2 * place, 2 * place + 1], list(GRADES)] = bad
    if "unknown" in faults:
        table = pd.concat([table, rows_of("8").iloc[:2]])
    if "duplicate" in faults:
        table = pd.concat([table, table.iloc[20:22]])
    return table.drop(index=[30, 31]) if "missing" in faults else table


@settings(max_examples=60, deadline=None)
@given(
    st.sets(
        st.sampled_from(
            ["duplicate", "unknown", "missing", "not_a_number", "infinite", "negative", "sum"]
        ),
        min_size=1,
    )
)
def test_all_kinds_that_occur_are_named_together(faults: set[str]) -> None:
    found = refused(spoiled(rows_of(*STUDIES), faults))
    assert {bad.fault for bad in found} == faults
    assert all(bad.count == 2 and len(bad.examples) == 2 for bad in found)


def test_the_error_holds_one_text_for_each_kind() -> None:
    table = spoiled(rows_of(*STUDIES), {"missing", "sum"})
    with pytest.raises(SubmissionError) as caught:
        read_answers(table, STUDIES)
    assert str(caught.value) == "; ".join(map(str, caught.value.bad_rows))
    assert isinstance(caught.value, DataError)


def test_a_submission_is_not_changed() -> None:
    table = rows_of("7", *STUDIES).sample(frac=1, random_state=3)
    before = table.copy(deep=True)
    read_answers(table, STUDIES, others=("7",))
    pd.testing.assert_frame_equal(table, before)
