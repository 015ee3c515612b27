"""The limits for a model's differences from the reference, by precision.

The float32 limits allow rounding only. The others were set from trained phantom detectors (table
in docs/engines.md), with some room: the limits of probabilities stop a broken graph. The limits of
changed grades and of the metric stop one that is only worse; they apply to a variant, all groups
together, like the metric. A peak is not an answer by itself: for lower precisions its largest
difference is recorded but not limited.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from rsna_lumbar.runtime.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest accepted differences. A difference that is not a number exceeds every limit."""

    peak: float  # largest difference of a peak
    probability: float  # largest difference of a probability
    probability_p999: float  # 99.9th percentile of the differences of probabilities
    changed: float  # share of a variant's rows whose likeliest grade changed; one row always may
    metric: float  # increase of the official metric, as a share of the reference's


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
        UsageError: a change has another form.
    """
    limits = dict(LIMITS)
    for change in changes:
        precision, _, rest = change.partition(":")
        name, _, text = rest.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if precision not in limits or name not in NAMES or not value >= 0:
            raise UsageError(
                f"--limit {change!r} is not PRECISION:NAME=VALUE, such as int8:changed=0.02; "
                f"precisions are {', '.join(limits)}, names are {', '.join(NAMES)}"
            )
        limits[precision] = replace(limits[precision], **{name: value})
    return limits
