"""The card beside a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsna_lumbar.export.checkpoints.card import default_card, read_card
from rsna_lumbar.runtime.core.errors import CheckpointError
from rsna_lumbar.runtime.core.labels import FORAMINAL, SPINAL
from rsna_lumbar.runtime.core.preprocess import Preprocessing

GOOD: dict[str, Any] = {
    "group": "spinal",
    "prior": [[0.5, 0.3, 0.2]] * 5,
    "size_px": 160,
    "preprocessing": asdict(Preprocessing(low_percentile=0.0, high_percentile=100.0)),
}


def write(folder: Path, **changes: Any) -> Path:
    fields = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    (folder / "spinal.json").write_text(json.dumps(fields))
    return folder / "spinal.pt"


def test_none_is_there(tmp_path: Path) -> None:
    assert read_card(tmp_path / "spinal.pt", SPINAL) is None


def test_reads(tmp_path: Path) -> None:
    card = read_card(write(tmp_path, more="is ignored"), SPINAL)
    assert card is not None
    assert card.size_px == 160 and card.preprocessing == Preprocessing(0.0, 100.0)
    np.testing.assert_allclose(card.prior, GOOD["prior"], rtol=1e-15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": "foraminal"}, "for group 'foraminal', not spinal"),
        ({"group": None}, "'group' is missing"),
        ({"size_px": "big"}, "size_px is not an integer"),
        ({"prior": [[0.5, 0.3, 0.2]] * 4}, r"shape \(4, 3\)"),
        ({"prior": [[0.5, 0.3, 0.1]] * 5}, "does not sum to 1"),
        ({"prior": [[1.5, -0.3, -0.2]] * 5}, "does not sum to 1"),
        ({"prior": [[float("nan"), 0.5, 0.5]] * 5}, "does not sum to 1"),
        ({"prior": "none"}, "could not convert"),
        ({"preprocessing": {"sharpen": 1}}, "unexpected keyword"),
        ({"preprocessing": {"pad_value": 999}}, "0..255"),
    ],
)
def test_refuses(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_card(write(tmp_path, **changes), SPINAL)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_refuses_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "spinal.json").write_text(text)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_card(tmp_path / "spinal.pt", SPINAL)


def test_default_is_the_published_one() -> None:
    prior = default_card(FORAMINAL).prior
    assert prior.shape == (10, 3)
    np.testing.assert_allclose(prior[0], [77 / 133, 32 / 133, 24 / 133])
