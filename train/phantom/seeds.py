"""Random streams and identifiers; they depend only on the seed and the study's number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PARTS = ("train", "test")
PURPOSES = ("grades", "anatomy", "acquisition", "scanner", "pixels", "quirks", "labels", "header")

# Identifiers look like the challenge's (4003253 to 4290709089). Multiplying by a number coprime to
# the modulus is a bijection, so ids are unique without knowledge of the other studies.
_SMALLEST_ID = 4_003_253
_MODULUS = 4_286_705_837
_MULTIPLIER = 2_654_435_761  # prime, and no divisor of the modulus
_SERIES_PER_STUDY = 8


@dataclass(frozen=True, slots=True)
class StudySeed:
    """The only source of randomness of a study."""

    seed: int
    part: int  # index into PARTS
    index: int

    def rng(self, purpose: str) -> np.random.Generator:
        """One stream per purpose, so that a new quirk does not change the anatomy."""
        return np.random.default_rng([self.seed, self.part, self.index, PURPOSES.index(purpose)])

    def study_id(self) -> int:
        return _identifier(self.seed, 0, self._number())

    def series_id(self, number: int) -> int:
        """Identifier of the ``number``-th series of the study, unique over all studies."""
        return _identifier(self.seed, 1, self._number() * _SERIES_PER_STUDY + number)

    def _number(self) -> int:
        return 2 * self.index + self.part


def _identifier(seed: int, kind: int, number: int) -> int:
    offset = int(np.random.default_rng([seed, 99, kind]).integers(_MODULUS))
    return _SMALLEST_ID + (offset + number * _MULTIPLIER) % _MODULUS
