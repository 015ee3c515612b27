"""The grade of each location of a study, and the severity that is drawn.

A Gaussian copula: the latent value of a location is the sum of parts shared by the study, the level
and the kind of condition, and of a part of its own. The grade follows from the quantiles of the
level's grade frequencies. So sides and neighbours correlate, and on average the frequencies are
exactly those requested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from rsna_lumbar.runtime.core.labels import GRADES, GROUPS, LEVELS, LOCATIONS

Location = tuple[str, str]  # (condition, level)

# How much more often than average a level is degenerate, top to bottom; the mean is 1.
_LEVEL_WEIGHTS = np.array([0.35, 0.65, 1.0, 1.65, 1.35])
_SHARED = (0.2, 0.2, 0.15)  # variances that study, level and group contribute
_VARIANCES = (*_SHARED, 1.0 - sum(_SHARED))  # and the location's own

# Severity 0 is perfect anatomy, 1 complete obliteration. The grades' centres:
SEVERITY_CENTRES = (0.15, 0.5, 0.85)
_HALF_GAP = 0.175
_STANDARD = NormalDist()


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding at one location."""

    grade: int  # index into GRADES
    severity: float  # as drawn, 0 to 1


@dataclass(frozen=True, slots=True)
class Findings:
    """All graded locations of one study, and the degeneration (0 to 1) of its five discs."""

    of_location: Mapping[Location, Finding]
    degeneration: tuple[float, ...]

    def severity(self, condition: str, level: str) -> float:
        return self.of_location[condition, level].severity


def level_frequencies(frequencies: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """(5, 3) shares of the grades per level; their mean over levels is ``frequencies``."""
    shares = np.array(frequencies) / sum(frequencies)
    abnormal = 1.0 - shares[0]
    # No level can be abnormal in more than 97 %: reduce the spread until the worst level fits.
    spread = (0.97 / abnormal - 1.0) / (_LEVEL_WEIGHTS.max() - 1.0) if abnormal > 0 else 1.0
    weights = 1.0 + max(0.0, min(1.0, spread)) * (_LEVEL_WEIGHTS / _LEVEL_WEIGHTS.mean() - 1.0)
    table: npt.NDArray[np.float64] = weights[:, None] * shares
    table[:, 0] = 1.0 - table[:, 1:].sum(axis=1)
    return table


def draw_findings(
    rng: np.random.Generator, frequencies: tuple[float, float, float], overlap: float
) -> Findings:
    """Grades and severities of one study."""
    study, levels = rng.normal(), rng.normal(size=len(LEVELS))
    groups = rng.normal(size=(len(GROUPS), len(LEVELS)))
    table = np.cumsum(level_frequencies(frequencies), axis=1)
    findings = {}
    for condition, level in LOCATIONS:
        row = LEVELS.index(level)
        group = next(i for i, group in enumerate(GROUPS) if condition in group.conditions)
        latent = _mix(study, levels[row], groups[group, row], rng.normal())
        grade = int(np.searchsorted(table[row, :-1], _STANDARD.cdf(latent), side="right"))
        findings[condition, level] = Finding(grade, _severity(rng, grade, overlap))
    worn = [
        _STANDARD.cdf(0.5 * study + 0.7 * value + 0.25 * row - 0.6)
        for row, value in enumerate(levels)
    ]
    return Findings(findings, tuple(worn))


def _mix(*parts: float) -> float:
    """Parts of the study, level, group and location; all have unit variance, and so has the sum."""
    return float(sum(share**0.5 * part for share, part in zip(_VARIANCES, parts, strict=True)))


def _severity(rng: np.random.Generator, grade: int, overlap: float) -> float:
    """Normal around the grade's centre; a share ``overlap`` of the cases crosses one border."""
    assert grade < len(GRADES)
    spread = _HALF_GAP / _STANDARD.inv_cdf(1.0 - max(overlap, 1e-4))
    return float(np.clip(rng.normal(SEVERITY_CENTRES[grade], spread), 0.0, 1.0))
