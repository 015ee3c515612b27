"""The eight turns of a picture by its axes, and the effect of each on positions in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Turn:
    """Operations on a stored picture, in this order, that turn it upright."""

    transposed: bool = False  # rows become columns
    mirrored: bool = False  # columns in reverse
    upside_down: bool = False  # rows in reverse

    def image(self, stored: NDArray[Scalar]) -> NDArray[Scalar]:
        """(rows, columns) as stored -> upright and C-contiguous; no copy if it already is."""
        upright: NDArray[Any] = stored.T if self.transposed else stored
        upright = upright[:, ::-1] if self.mirrored else upright
        return np.ascontiguousarray(upright[::-1] if self.upside_down else upright)

    def pair(self, along_rows_and_columns: tuple[T, T]) -> tuple[T, T]:
        """A pair such as (rows, columns) or a spacing, as stored -> of the upright picture."""
        first, second = along_rows_and_columns
        return (second, first) if self.transposed else (first, second)

    def to_upright(self, x: float, y: float, rows: int, columns: int) -> tuple[float, float]:
        """A position in a stored picture of (rows, columns) -> the position in the upright picture.

        In pixels, with pixel centres at whole numbers.
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
