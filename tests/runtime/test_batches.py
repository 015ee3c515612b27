"""Filling batches: nothing lost, nothing torn that need not be, always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.decode.slice_sets import SetRequest, SliceSet
from rsna_lumbar.runtime.dicom.slices import Slice
from rsna_lumbar.runtime.inference.batches import fill_batches, pack
from rsna_lumbar.runtime.inference.viewed_sets import ViewedSet, plainly


def made_set(index: int, count: int) -> ViewedSet:
    slices = tuple(
        Slice(np.full((2, 2), 10 * index + n, np.uint8), Path(), 0, 2, 2, None, None, n)
        for n in range(count)
    )
    return plainly(SliceSet(SetRequest(str(index), SPINAL, 2, ()), slices, ()))


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 7))
def test_batches_hold_every_slice_once_and_in_order(counts: list[int], size: int) -> None:
    sets = [made_set(index, count) for index, count in enumerate(counts)]
    batches = list(fill_batches(sets, size))
    seen: dict[str, list[int]] = {}
    for batch in batches:
        images, member = batch.slices, batch.member
        assert 1 <= len(images) <= size
        assert member.shape == (len(batch.parts), len(images))
        assert (member.sum(axis=0) == 1).all()
        for row, part in enumerate(batch.parts):
            values = images[member[row]][:, 0, 0].tolist()
            seen.setdefault(part.of.request.study_id, []).extend(values)
            whole = len(values) == len(part.of.slices)
            assert whole or len(part.of.slices) > size
    expected = {
        s.request.study_id: [int(o.image[0, 0]) for o in s.slices] for s in sets if s.slices
    }
    assert seen == expected


def test_no_sets_make_no_batches() -> None:
    assert list(fill_batches([], 4)) == []
    assert list(fill_batches([made_set(0, 0)], 4)) == []


def test_a_set_that_does_not_fit_starts_the_next_batch() -> None:
    batches = list(fill_batches([made_set(i, n) for i, n in enumerate((3, 2, 1, 9))], 4))
    assert [[(p.of.request.study_id, p.start, p.stop) for p in b.parts] for b in batches] == [
        [("0", 0, 3)],
        [("1", 0, 2), ("2", 0, 1), ("3", 0, 1)],
        [("3", 1, 5)],
        [("3", 5, 9)],
    ]


def test_pack_worked_by_hand() -> None:
    def spans(counts: list[int], size: int) -> list[list[tuple[int, int, int, int]]]:
        return [
            [(s.of, s.start, s.stop, s.row) for s in batch]
            for batch in pack(enumerate(counts), size)
        ]

    assert spans([], 4) == []
    assert spans([2, 2, 1], 4) == [[(0, 0, 2, 0), (1, 0, 2, 2)], [(2, 0, 1, 0)]]
    assert spans([9], 4) == [[(0, 0, 4, 0)], [(0, 4, 8, 0)], [(0, 8, 9, 0)]]
    assert spans([3, 0, 2], 4) == [[(0, 0, 3, 0)], [(2, 0, 2, 0)]]
    assert spans([1, 7], 4) == [[(0, 0, 1, 0), (1, 0, 3, 1)], [(1, 3, 7, 0)]]
