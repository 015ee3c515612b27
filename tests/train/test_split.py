"""Folds: every study once, severity spread evenly, nothing left to chance but the seed."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsna_lumbar.runtime.core.errors import DataError, UsageError
from rsna_lumbar.runtime.core.labels import GROUPS, SEVERE, SPINAL
from rsna_lumbar.train.dataset.split import Folds, split_studies
from rsna_lumbar.train.dataset.tables import Tables

EMPTY = pd.DataFrame(columns=["study_id"])


def tables(grades: list[list[int]]) -> Tables:
    """One study for each list: the worst grade of each group, at its first location."""
    studies = tuple(sorted(str(100 + number) for number in range(len(grades))))
    rows = [
        (study, *group.locations[0], grade)
        for study, worst in zip(studies, grades, strict=True)
        for group, grade in zip(GROUPS, worst, strict=True)
    ]
    labels = pd.DataFrame(rows, columns=["study_id", "condition", "level", "grade"])
    return Tables(studies, labels, EMPTY, EMPTY)


GRADES_OF_STUDIES = st.lists(
    st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=2, max_size=60
)


@given(GRADES_OF_STUDIES, st.integers(2, 6), st.integers(0, 99))
def test_every_study_is_validated_on_once(grades: list[list[int]], folds: int, seed: int) -> None:
    of = tables(grades)
    folds = min(folds, len(of.studies))
    splits = [split_studies(of, Folds(folds=folds, fold=fold, seed=seed)) for fold in range(folds)]
    assert sorted(study for split in splits for study in split.val) == list(of.studies)
    for split in splits:
        assert sorted(split.train + split.val) == list(of.studies)
        assert split.train and split.val
    sizes = [len(split.val) for split in splits]
    assert max(sizes) - min(sizes) <= 1


@given(GRADES_OF_STUDIES, st.integers(2, 5), st.integers(0, 99))
def test_severe_studies_are_spread(grades: list[list[int]], folds: int, seed: int) -> None:
    """Severe spinal studies stand first when they are dealt out, the severe ones of another
    group in runs inside the runs of the groups before it: 1, 2 and 4 runs, cut at two ends each.
    """
    of = tables(grades)
    folds = min(folds, len(of.studies))
    splits = [split_studies(of, Folds(folds=folds, fold=fold, seed=seed)) for fold in range(folds)]
    for group, apart in zip(GROUPS, (1, 3, 7), strict=True):
        labels = of.labels[of.labels["condition"].isin(group.conditions)]
        severe = set(labels.loc[labels["grade"] == SEVERE, "study_id"])
        counts = [len(severe & set(split.val)) for split in splits]
        assert max(counts) - min(counts) <= apart


@pytest.mark.parametrize("seed", range(5))
def test_the_many_times_severe_are_spread(seed: int) -> None:
    """Twelve studies with a severe spinal level, half of them with five: three in each fold."""
    levels = [level for _, level in SPINAL.locations]
    rows = [
        (str(100 + number), SPINAL.conditions[0], level, SEVERE)
        for number in range(12)
        for level in (levels if number % 2 else levels[:1])
    ]
    labels = pd.DataFrame(rows, columns=["study_id", "condition", "level", "grade"])
    of = Tables(tuple(str(100 + number) for number in range(12)), labels, EMPTY, EMPTY)
    for fold in range(2):
        split = split_studies(of, Folds(folds=2, fold=fold, seed=seed))
        assert sum(int(study) % 2 for study in split.val) == 3


def test_the_order_of_rows_does_not_matter() -> None:
    of = tables([[n % 3, n % 2, 0] for n in range(40)])
    other = Tables(of.studies, of.labels.sample(frac=1, random_state=1), EMPTY, EMPTY)
    assert split_studies(of, Folds(seed=3)) == split_studies(other, Folds(seed=3))


def test_another_seed_draws_other_studies() -> None:
    of = tables([[0, 0, 0]] * 50)
    assert split_studies(of, Folds(seed=0)).val != split_studies(of, Folds(seed=1)).val


def test_too_few_studies_are_refused() -> None:
    with pytest.raises(DataError, match="1 studies cannot be split into 5 folds"):
        split_studies(tables([[0, 0, 0]]), Folds())


@pytest.mark.parametrize("choice", [{"folds": 1}, {"folds": 5, "fold": 5}])
def test_folds_that_cannot_be(choice: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="fold"):
        Folds(**choice)
