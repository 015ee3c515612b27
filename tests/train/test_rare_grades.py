"""Slices with a rare grade stand repeatedly in the list that a training reads."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path

import pytest
from yolo_sets import write_data

from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.train.fitting.fit import FitOptions, fit
from rsna_lumbar.train.fitting.rare_grades import write_slice_list


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six slices: one carries a moderate label, one a severe label after a mild one."""
    folder = write_data(tmp_path / "data" / "spinal", {"train": 6, "val": 2})
    labels = folder / "labels" / "train"
    (labels / "1.txt").write_text("4 0.5 0.5 0.25 0.25\n")
    (labels / "3.txt").write_text("3 0.5 0.5 0.25 0.25\n8 0.5 0.25 0.25 0.25\n")
    return folder


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_slice_is_listed_so_often(data: Path, tmp_path: Path, repeats: int) -> None:
    write_slice_list(data, tmp_path / "list.txt", repeats)
    listed = Counter(Path(line).stem for line in (tmp_path / "list.txt").read_text().splitlines())
    assert listed == {"0": 1, "1": repeats, "2": 1, "3": repeats, "4": 1, "5": 1}


def test_a_training_sees_them_so_often(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rsna_lumbar.train.fitting import trainer

    seen: Counter[str] = Counter()
    preprocess = trainer.LumbarTrainer.preprocess_batch

    def count(self: trainer.LumbarTrainer, batch: dict[str, object]) -> object:
        files = batch["im_file"]
        assert isinstance(files, list | tuple)
        seen.update(Path(file).stem for file in files)
        return preprocess(self, batch)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(trainer.LumbarTrainer, "preprocess_batch", count)
    options = FitOptions(model="demo", epochs=1, batch_size=2, device="cpu", repeat_rare=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(torch|ultralytics)\b")
        fit(data.parent, [SPINAL], tmp_path / "out", options)
    assert seen == {"0": 1, "1": 2, "2": 1, "3": 2, "4": 1, "5": 1}
    card = json.loads((tmp_path / "out" / "spinal.json").read_text())
    assert card["settings"]["repeat_rare"] == 2
