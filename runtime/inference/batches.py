"""Sets -> batches, filled in a fixed order, so that results never depend on timing.

A set stays whole unless it alone is larger than a batch. A larger set is cut into parts. Its first
part fills up the open batch, so that batches stay full; the peaks of its parts are combined on the
host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.decode.slice_sets import SliceSet


@dataclass(frozen=True, slots=True)
class Part:
    """Slices ``start`` to ``stop`` of a set, at the rows from ``row`` of a batch."""

    of: SliceSet
    start: int
    stop: int
    row: int

    @property
    def last(self) -> bool:
        return self.stop == len(self.of.slices)


@dataclass(frozen=True, slots=True)
class Batch:
    """Slices of one group, at most the batch size, in parts; ``member`` has one row per part."""

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
        """(G, N) bool: slice n belongs to part g."""
        rows = np.arange(self.parts[-1].row + self.parts[-1].stop - self.parts[-1].start)
        first = np.array([part.row for part in self.parts])[:, None]
        count = np.array([part.stop - part.start for part in self.parts])[:, None]
        return np.asarray((rows >= first) & (rows < first + count))

    def cut(self, size: int) -> Iterator[Batch]:
        """The same parts in batches of at most ``size`` slices."""
        for spans in pack((part.stop - part.start for part in self.parts), size):
            yield Batch(tuple(Part(self.parts[s.index].of, *self._in_set(s), s.row) for s in spans))

    def _in_set(self, span: Span) -> tuple[int, int]:
        start = self.parts[span.index].start
        return start + span.start, start + span.stop


@dataclass(frozen=True, slots=True)
class Span:
    """Items ``start`` to ``stop`` of a set, at the rows from ``row`` of a batch."""

    index: int  # index of the set
    start: int
    stop: int
    row: int


class Packer:
    """Packs sets, given by their number of items, into batches of at most ``size``, in order.

    A set without items is not put into any batch. A set that does not fit into the rest of a batch
    starts the next one, unless it is larger than a whole batch.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._batch: list[Span] = []
        self._used = 0

    def add(self, index: int, count: int) -> Iterator[tuple[Span, ...]]:
        """Add a set; return the batches that it completed."""
        if count <= self._size < self._used + count:
            yield from self.flush()
        start = 0
        while start < count:
            stop = min(count, start + self._size - self._used)
            self._batch.append(Span(index, start, stop, self._used))
            self._used += stop - start
            start = stop
            if self._used == self._size:
                yield from self.flush()

    def flush(self) -> Iterator[tuple[Span, ...]]:
        """Return the items added since the last batch, if any."""
        batch, self._batch, self._used = tuple(self._batch), [], 0
        if batch:
            yield batch


def pack(counts: Iterable[int], size: int) -> Iterator[tuple[Span, ...]]:
    """Pack sets, given by their number of items, each as one span if it fits into a batch."""
    packer = Packer(size)
    for index, count in enumerate(counts):
        yield from packer.add(index, count)
    yield from packer.flush()


class Filler:
    """Fills the batches of one group; a set is released with the batch that holds its last part."""

    def __init__(self, size: int) -> None:
        self._packer = Packer(size)
        self._held: dict[int, SliceSet] = {}
        self._count = 0

    def add(self, one: SliceSet) -> Iterator[Batch]:
        """Add a set; return the batches that it completed."""
        index, self._count = self._count, self._count + 1
        self._held[index] = one
        yield from map(self._batch, self._packer.add(index, len(one.slices)))
        if not one.slices:
            del self._held[index]

    def flush(self) -> Iterator[Batch]:
        """Return the partly filled batch, if any."""
        yield from map(self._batch, self._packer.flush())

    def _batch(self, spans: tuple[Span, ...]) -> Batch:
        parts = tuple(Part(self._held[s.index], s.start, s.stop, s.row) for s in spans)
        for part, span in zip(parts, spans, strict=True):
            if part.last:
                del self._held[span.index]
        return Batch(parts)


def fill_batches(sets: Iterable[SliceSet], size: int) -> Iterator[Batch]:
    """Batches from the sets of one group, in order."""
    filler = Filler(size)
    for one in sets:
        yield from filler.add(one)
    yield from filler.flush()
