"""Sets -> batches, filled in a fixed order, so that results never depend on timing.

A set stays whole unless it alone is larger than a batch. A larger set is cut into parts. Its first
part fills up the open batch, so that batches stay full; the peaks of its parts are combined on the
host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.inference.viewed_sets import ViewedSet

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Span(Generic[T]):
    """Items ``start`` to ``stop`` of a set, at the rows from ``row`` of a batch."""

    of: T
    start: int
    stop: int
    row: int
    last: bool  # no items of the set come after these


Part = Span[ViewedSet]


@dataclass(frozen=True, slots=True)
class Batch:
    """Slices of one group, at most the batch size, in parts."""

    parts: tuple[Part, ...]

    @property
    def count(self) -> int:
        """Number of slices."""
        return sum(part.stop - part.start for part in self.parts)

    @property
    def slices(self) -> NDArray[np.uint8]:
        """(N, S, S) uint8."""
        return np.stack(
            [one.image for part in self.parts for one in part.of.slices[part.start : part.stop]]
        )

    @property
    def member(self) -> NDArray[np.bool_]:
        """(G, N) bool: one row for each view of each part that has a slice there, in order.

        Every slice is in a view, and none in two, so G is at most N.
        """
        rows = []
        for part in self.parts:
            of_part = part.of.views.slices[:, part.start : part.stop]  # (V, m)
            before, after = part.row, self.count - part.row - of_part.shape[1]
            rows.append(np.pad(of_part[of_part.any(axis=1)], ((0, 0), (before, after))))
        return np.concatenate(rows)

    def cut(self, size: int) -> Iterator[Batch]:
        """The same parts in batches of at most ``size`` slices."""
        for spans in pack(((part, part.stop - part.start) for part in self.parts), size):
            yield Batch(tuple(_inside(span) for span in spans))


def _inside(span: Span[Part]) -> Part:
    part = span.of
    start, stop = part.start + span.start, part.start + span.stop
    return Span(part.of, start, stop, span.row, part.last and span.last)


class Packer(Generic[T]):
    """Packs sets into batches of at most ``size`` items, in order.

    A set without items is not put into any batch. A set that does not fit into the rest of a batch
    starts the next one, unless it is larger than a whole batch. A set is released with the batch
    that holds its last items.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._batch: list[Span[T]] = []
        self._used = 0

    def add(self, one: T, count: int) -> Iterator[tuple[Span[T], ...]]:
        """Add a set of so many items; return the batches that it completed."""
        if count <= self._size < self._used + count:
            yield from self.flush()
        start = 0
        while start < count:
            stop = min(count, start + self._size - self._used)
            self._batch.append(Span(one, start, stop, self._used, last=stop == count))
            self._used += stop - start
            start = stop
            if self._used == self._size:
                yield from self.flush()

    def flush(self) -> Iterator[tuple[Span[T], ...]]:
        """Return the items added since the last batch, if any."""
        batch, self._batch, self._used = tuple(self._batch), [], 0
        if batch:
            yield batch


def fill_batches(sets: Iterable[ViewedSet], size: int) -> Iterator[Batch]:
    """Batches from the sets of one group, in order."""
    return map(Batch, pack(((one, len(one.slices)) for one in sets), size))


def pack(counted: Iterable[tuple[T, int]], size: int) -> Iterator[tuple[Span[T], ...]]:
    """Pack sets, each with its number of items."""
    packer = Packer[T](size)
    for one, count in counted:
        yield from packer.add(one, count)
    yield from packer.flush()
