"""Which labels of an image are taught."""

from __future__ import annotations

import pytest

from rsna_lumbar.train.dataset.label_scheme import LabelScheme, mask

MASKED, DROPPED, BACKGROUND = (
    "masked_beside_severe",
    "none_severe_dropped",
    "none_severe_background",
)


def scheme(none_severe: str = "keep") -> LabelScheme:
    return LabelScheme(name="mask-non-severe", none_severe=none_severe)


@pytest.mark.parametrize("grades", [[], [0], [2], [0, 2], [1, 0, 2, 2]])
def test_all_keeps_every_label(grades: list[int]) -> None:
    assert mask(grades, LabelScheme()) == ("",) * len(grades)


@pytest.mark.parametrize("none_severe", ["keep", "drop", "background"])
@pytest.mark.parametrize(
    ("grades", "reasons"),
    [
        ([], ()),
        ([0], ("",)),  # one label alone stays, whatever it is
        ([2], ("",)),
        ([0, 2], (MASKED, "")),
        ([2, 1, 2, 0], ("", MASKED, "", MASKED)),
    ],
)
def test_masking_where_one_is_severe(
    grades: list[int], reasons: tuple[str, ...], none_severe: str
) -> None:
    assert mask(grades, scheme(none_severe)) == reasons


@pytest.mark.parametrize(
    ("none_severe", "reason"), [("keep", ""), ("drop", DROPPED), ("background", BACKGROUND)]
)
def test_several_labels_and_none_severe(none_severe: str, reason: str) -> None:
    assert mask([0, 1, 0], scheme(none_severe)) == (reason,) * 3


@pytest.mark.parametrize(
    "choice", [{"name": "some"}, {"none_severe": "perhaps"}, {"none_severe": "drop"}]
)
def test_unknown_words_are_refused(choice: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"some|perhaps|needs"):
        LabelScheme(**choice)
