"""The eight ways to lay a rectangle of pixels onto its axes, and what each does to places in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Turn:
    """What to do to a stored picture, in this order, so that it stands upright."""

    transposed: bool = False  # rows become columns
    mirrored: bool = False  # columns in reverse
    upside_down: bool = False  # rows in reverse

    def image(self, stored: NDArray[Scalar]) -> NDArray[Scalar]:
        """(rows, columns) as stored -> upright and C-contiguous, the same array where it is so."""
        upright: NDArray[Any] = stored.T if self.transposed else stored
        upright = upright[:, ::-1] if self.mirrored else upright
        return np.ascontiguousarray(upright[::-1] if self.upside_down else upright)

    def pair(self, along_rows_and_columns: tuple[T, T]) -> tuple[T, T]:
        """A pair such as (rows, columns) or a spacing, as stored -> of the upright picture."""
        first, second = along_rows_and_columns
        return (second, first) if self.transposed else (first, second)

    def to_upright(self, x: float, y: float, rows: int, columns: int) -> tuple[float, float]:
        """A place in a stored picture of (rows, columns) -> where it is upright.

        Pixels, centres at whole numbers.
        """
        high, wide = self.pair((rows, columns))
        across, down = self.pair((x, y))
        return (
            wide - 1 - across if self.mirrored else across,
            high - 1 - down if self.upside_down else down,
        )

    def to_stored(self, x: float, y: float, rows: int, columns: int) -> tuple[float, float]:
        """The inverse of :meth:`to_upright`."""
        high, wide = self.pair((rows, columns))
        return self.pair(
            (
                wide - 1 - x if self.mirrored else x,
                high - 1 - y if self.upside_down else y,
            )
        )


AS_STORED = Turn()
