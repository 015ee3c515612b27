"""A model against the reference: what agrees passes, what does not is refused with the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toys import TOY_MODEL, TOY_PARITY

from rsna_lumbar.export.checkpoints.card import default_card
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint
from rsna_lumbar.export.checkpoints.reference import reference_peaks
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.verification.limits import LIMITS, Limits
from rsna_lumbar.export.verification.parity import (
    Checked,
    Expected,
    expect,
    faults,
    require_parity,
    verify,
)
from rsna_lumbar.runtime.backends import SessionSettings, load_backend
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.errors import VerificationError
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.postprocess import Calibration

SIZE_PX = 64
PRIOR = tuple(tuple(row) for row in default_card(SPINAL).prior.tolist())
DETECTOR = Detector(
    SPINAL,
    SIZE_PX,
    Calibration(temperature=0.8, bias=(0.2, -0.1, -0.3), floor=1e-3),
    PRIOR,  # type: ignore[arg-type]
    "mean",
    (),
)
NOTHING_OFF = replace(TOY_PARITY, slices=40, rows=200)

Sets = dict[str, NDArray[np.uint8]]
Reported = list[str]


def expected_by(checkpoint: Checkpoint, sets: Sets, report: Callable[[str], None]) -> Expected:
    return expect(
        partial(reference_peaks, checkpoint),
        sets,
        reference="pytorch",
        name="spinal",
        report=report,
    )


def checked(graph: bytes, sets: Sets, expected: Expected, batch_size: int = 32) -> Checked:
    with load_backend("onnxruntime").open_session(
        [graph], TOY_MODEL, DETECTOR, SessionSettings("cpu", 1)
    ) as session:
        return verify(
            session, sets, expected, detector=DETECTOR, batch_size=batch_size, source="data"
        )


@pytest.mark.parametrize("batch_size", [3, 32])
def test_the_graph_of_a_checkpoint_passes(
    make_checkpoint: Any, make_graph: Any, batch_size: int
) -> None:
    """Sets split over batches and several sets in one; the figures are the ones compared."""
    checkpoint = make_checkpoint(SPINAL, "n", 1)
    slices = textured_slices(10, SIZE_PX, seed=8)
    sets = {"1": slices[:2], "2": slices[2:9], "3": slices[9:]}
    said: Reported = []
    expected = expected_by(checkpoint, sets, said.append)
    found = checked(make_graph(SPINAL, "n", 1), sets, expected, batch_size)
    parity = found.parity
    assert 0 < parity.peak < LIMITS["fp32"].peak
    assert 0 < parity.probability_p999 <= parity.probability < LIMITS["fp32"].probability
    assert (parity.slices, parity.rows, parity.changed_rows) == (10, 15, 0)
    assert (parity.reference, parity.source, parity.device) == ("pytorch", "data", "cpu")
    assert parity.ms_per_slice and parity.ms_per_slice > 0 and parity.hardware
    largest = max(np.abs(found.peaks[study] - expected.peaks[study]).max() for study in sets)
    assert parity.peak == largest
    require_parity(parity, LIMITS["fp32"], "spinal")
    assert said == []


def test_another_network_is_refused(make_checkpoint: Any, make_graph: Any) -> None:
    sets = {"1": textured_slices(4, SIZE_PX)}
    expected = expected_by(make_checkpoint(SPINAL, "n", 1), sets, print)
    parity = checked(make_graph(SPINAL, "n", 3), sets, expected).parity
    with pytest.raises(VerificationError, match=r"spinal .* peaks by 0\.\d+ \(limit 1e-05\)"):
        require_parity(parity, LIMITS["fp32"], "spinal")


def test_another_order_of_classes_is_refused(make_checkpoint: Any, make_graph: Any) -> None:
    checkpoint = make_checkpoint(SPINAL, "n", 1)
    order = (checkpoint.order[1], checkpoint.order[0], *checkpoint.order[2:])
    sets = {"1": textured_slices(4, SIZE_PX)}
    expected = expected_by(replace(checkpoint, order=order), sets, print)
    parity = checked(make_graph(SPINAL, "n", 1), sets, expected).parity
    with pytest.raises(VerificationError, match="from pytorch on 4 slices"):
        require_parity(parity, LIMITS["fp32"], "spinal")


def test_constant_peaks_are_warned_of(make_checkpoint: Any) -> None:
    same = np.repeat(textured_slices(1, SIZE_PX), 3, axis=0)
    said: Reported = []
    expected_by(make_checkpoint(SPINAL, "n", 1), {"1": same}, said.append)
    assert len(said) == 1 and "nearly the same peaks" in said[0]


LIMIT = Limits(peak=0.5, probability=0.2, probability_p999=0.1, changed=0.01, metric=0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"peak": 0.5, "probability": 0.2, "probability_p999": 0.1}, None),
        ({"peak": 0.51}, "peaks by 0.51 (limit 0.5)"),
        ({"probability": 0.21}, "probabilities by 0.21 (limit 0.2)"),
        ({"probability_p999": 0.11}, "99.9 % of them by up to 0.11 (limit 0.1)"),
        ({"peak": float("nan")}, "peaks by nan (limit 0.5)"),
        ({"probability": float("nan")}, "probabilities by nan (limit 0.2)"),
    ],
)
def test_each_limit_holds(change: dict[str, float], words: str | None) -> None:
    parity = replace(NOTHING_OFF, **change)  # type: ignore[arg-type]
    assert faults(parity, LIMIT) == ([] if words is None else [words])
