"""Limits by precision, and how they are set."""

from __future__ import annotations

import pytest

from rsna_lumbar.export.verification.limits import LIMITS, with_changes
from rsna_lumbar.runtime.bundle.records import PRECISIONS
from rsna_lumbar.runtime.core.errors import UsageError


def test_every_precision_has_limits_and_float32_only_rounds() -> None:
    assert set(LIMITS) == set(PRECISIONS)
    assert (LIMITS["fp32"].peak, LIMITS["fp32"].probability) == (1e-5, 1e-4)
    for limits in LIMITS.values():
        assert (limits.changed, limits.metric) == (0.01, 0.01)
        assert 0 < limits.probability_p999 <= limits.probability <= 1


def test_changes_touch_nothing_else() -> None:
    assert with_changes(()) == dict(LIMITS)
    changed = with_changes(["int8:changed=0.02", "fp16:probability=0.5", "int8:metric=0"])
    assert changed["int8"].changed == 0.02 and changed["int8"].metric == 0
    assert changed["fp16"].probability == 0.5
    assert changed["int8"].probability == LIMITS["int8"].probability
    assert changed["fp32"] == LIMITS["fp32"] and changed["bf16"] == LIMITS["bf16"]


@pytest.mark.parametrize(
    "change",
    ["", "int8", "int8:changed", "int8:changed=", "int8:changed=x", "int8:changed=-1",
     "int8:changed=nan", "fp8:changed=1", "int8:beauty=1", "changed=0.1"],
)  # fmt: skip
def test_what_is_no_change_is_refused(change: str) -> None:
    with pytest.raises(UsageError, match=r"is not PRECISION:NAME=VALUE, such as int8:changed"):
        with_changes([change])
