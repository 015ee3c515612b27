"""Sets -> batches: filled in a fixed order, so that no byte of a result depends on timing.

A set stays whole unless it alone is larger than a batch; then it is cut into parts, and the
parts' peaks are combined on the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.sets import SliceSet


@dataclass(frozen=True, slots=True)
class Part:
    """Slices ``start`` to ``stop`` of a set, at rows ``row`` and on of a batch."""

    of: SliceSet
    start: int
    stop: int
    row: int

    @property
    def last(self) -> bool:
        return self.stop == len(self.of.slices)


@dataclass(frozen=True, slots=True)
class Batch:
    """Up to batch-size slices of one group, in parts, one row of ``member`` a part."""

    parts: tuple[Part, ...]

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


@dataclass(frozen=True, slots=True)
class Span:
    """Items ``start`` to ``stop`` of a set, at rows ``row`` and on of a batch."""

    index: int  # of the set
    start: int
    stop: int
    row: int


def pack(counts: Iterable[int], size: int) -> Iterator[tuple[Span, ...]]:
    """Pack sets of so many slices into batches of at most ``size``, in order.

    Sets without slices take no place. A set that does not fit into what is left of a batch
    starts the next one; a set larger than a batch is cut.
    """
    batch: list[Span] = []
    used = 0
    for index, count in enumerate(counts):
        for start in range(0, count, size):
            stop = min(start + size, count)
            if used + stop - start > size:
                yield tuple(batch)
                batch, used = [], 0
            batch.append(Span(index, start, stop, used))
            used += stop - start
    if batch:
        yield tuple(batch)


def fill_batches(sets: Iterable[SliceSet], size: int) -> Iterator[Batch]:
    """Pack sets of one group into batches; a set is let go once its last part was yielded."""
    held: dict[int, SliceSet] = {}

    def counts() -> Iterator[int]:
        for index, one in enumerate(sets):
            held[index] = one
            yield len(one.slices)

    for spans in pack(counts(), size):
        batch = Batch(tuple(Part(held[s.index], s.start, s.stop, s.row) for s in spans))
        for part, span in zip(batch.parts, spans, strict=True):
            if part.last:
                del held[span.index]
        yield batch
