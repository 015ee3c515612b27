"""How far a model may be from the reference, by precision, and what is measured against it.

The float32 limits are rounding. The others were set from trained phantom detectors (table in
docs/engines.md), with room: they stop a graph that is broken. The share of changed grades and the
metric stop one that is only worse; they judge a variant, all groups together, as a submission is
judged. A peak is no answer by itself: for lower precisions the largest difference of a peak is
recorded and not limited.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from rsna_lumbar.runtime.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a model may differ by. A difference that is no number is over every limit."""

    peak: float  # largest difference of a peak
    probability: float  # largest difference of a probability
    probability_p999: float  # 99.9th percentile of the differences of probabilities
    changed: float  # share of a variant's rows whose likeliest grade is another; one always may
    metric: float  # how much worse the official metric may be, as a share of the reference's


LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(1e-5, 1e-4, 1e-4, 0.01, 0.01),
    "fp16": Limits(math.inf, 0.05, 0.03, 0.01, 0.01),
    "bf16": Limits(math.inf, 0.15, 0.10, 0.01, 0.01),
    "int8": Limits(math.inf, 0.30, 0.20, 0.01, 0.01),
}
NAMES = tuple(field.name for field in fields(Limits))


def with_changes(changes: Iterable[str]) -> dict[str, Limits]:
    """The limits, with changes such as ``int8:changed=0.02``.

    Raises:
        UsageError: a change that is not of that form.
    """
    limits = dict(LIMITS)
    for change in changes:
        precision, _, rest = change.partition(":")
        name, _, text = rest.partition("=")
        value = _number(text)
        if precision not in limits or name not in NAMES or not value >= 0:
            raise UsageError(
                f"--limit {change!r} is not PRECISION:NAME=VALUE, such as int8:changed=0.02; "
                f"precisions are {', '.join(limits)}, names are {', '.join(NAMES)}"
            )
        limits[precision] = replace(limits[precision], **{name: value})
    return limits


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
