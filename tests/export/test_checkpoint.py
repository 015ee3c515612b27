"""What is loaded, and what is refused in one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rsna_lumbar.export.checkpoints.checkpoint import class_order, normalised, read_checkpoint
from rsna_lumbar.export.checkpoints.synthetic import save_checkpoint
from rsna_lumbar.runtime.bundle.store import sha256_of
from rsna_lumbar.runtime.core.errors import CheckpointError
from rsna_lumbar.runtime.core.labels import FORAMINAL, GROUPS, SPINAL

PATH = Path("some.pt")


def detector(config: str, names: tuple[str, ...] = SPINAL.classes) -> Any:
    """An untrained model: enough for what is refused by its form."""
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel(config, ch=1, nc=len(names), verbose=False)
    model.names = dict(enumerate(names))
    return model


def saved(tmp_path: Path, model: Any) -> Path:
    path = tmp_path / "weights.pt"
    save_checkpoint(model, path, size_px=96)
    return path


def test_reads_what_is_needed(make_checkpoint: Any) -> None:
    checkpoint = make_checkpoint(FORAMINAL, "n", 3)
    assert checkpoint.sha256 == sha256_of(checkpoint.path)
    assert (checkpoint.channels, checkpoint.trained_size_px) == (3, 64)
    assert not checkpoint.network.training
    names = checkpoint.network.names
    assert tuple(names[index] for index in checkpoint.order) == FORAMINAL.classes


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_finds_the_group_itself(make_checkpoint: Any, group: Any) -> None:
    assert read_checkpoint(make_checkpoint(group, "n", 1).path).group == group


def test_prefers_ema(tmp_path: Path) -> None:
    plain, averaged = detector("yolov8n.yaml"), detector("yolov8n.yaml")
    with torch.no_grad():
        averaged.model[0].conv.weight.fill_(0.125)
    path = tmp_path / "last.pt"
    torch.save({"model": plain.half(), "ema": averaged.half(), "train_args": {}}, path)
    checkpoint = read_checkpoint(path)
    assert (checkpoint.network.model[0].conv.weight == 0.125).all()
    assert checkpoint.trained_size_px is None


def test_refuses_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "yolov8n.pt")  # a name that ultralytics would download


class Planted:
    """Pickles as a call: what a malicious checkpoint does when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("before", ["", "import ultralytics.nn.tasks; "])
def test_loading_runs_no_code_of_the_file(tmp_path: Path, before: str) -> None:
    trace, path = tmp_path / "was_here", tmp_path / "planted.pt"
    torch.save({"model": Planted(trace)}, path)
    program = (
        f"import sys, pathlib; {before}"
        "from rsna_lumbar.export.checkpoints.checkpoint import read_checkpoint; "
        "read_checkpoint(pathlib.Path(sys.argv[1]))"
    )
    # A process of its own, in which it is imported for the first time.
    unswitched = {name: os.environ[name] for name in os.environ if name != "ULTRALYTICS_SAFE_LOAD"}
    ended = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, env=unswitched
    )
    assert "CheckpointError" in ended.stderr
    assert not trace.exists()


@pytest.mark.parametrize("config", ["yolov10n.yaml", "yolo26n.yaml"])
def test_refuses_end_to_end(tmp_path: Path, config: str) -> None:
    with pytest.raises(CheckpointError, match="end-to-end head"):
        read_checkpoint(saved(tmp_path, detector(config)))


def test_refuses_other_tasks(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import SegmentationModel

    model = SegmentationModel("yolov8n-seg.yaml", ch=1, nc=15, verbose=False)
    model.names = dict(enumerate(SPINAL.classes))
    with pytest.raises(CheckpointError, match="a SegmentationModel, not a detection model"):
        read_checkpoint(saved(tmp_path, model))


def test_refuses_other_strides(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="strides 8, 16, 32, 64; expected 8, 16, 32"):
        read_checkpoint(saved(tmp_path, detector("yolov8n-p6.yaml")))


def test_refuses_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = detector("yolov8n.yaml")
    with torch.no_grad():
        model.model[4].cv1.conv.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match="not finite"):
        read_checkpoint(saved(tmp_path, model))


def test_refuses_another_group(make_checkpoint: Any) -> None:
    with pytest.raises(
        CheckpointError, match=r"30 class names .* not the 15 of spinal: unexpected"
    ):
        read_checkpoint(make_checkpoint(FORAMINAL, "n", 1).path, SPINAL)


def test_normalises_names() -> None:
    assert normalised("Spinal Canal Stenosis  L1/L2 (Normal/Mild)") == SPINAL.classes[0]
    assert normalised("SPINAL-canal-stenosis-l5-s1_Severe") == SPINAL.classes[-1]


def test_order() -> None:
    assert class_order(SPINAL.classes, SPINAL, PATH, outputs=15) == tuple(range(15))
    backwards = SPINAL.classes[::-1]
    assert class_order(backwards, SPINAL, PATH, outputs=15) == tuple(range(14, -1, -1))


@pytest.mark.parametrize(
    ("names", "outputs", "message"),
    [
        ((), 15, "0 class names"),
        (SPINAL.classes[:-1], 14, "missing spinal_canal_stenosis_l5_s1_severe"),
        ((*SPINAL.classes[:-1], "cat"), 15, "unexpected cat"),
        ((*SPINAL.classes, SPINAL.classes[0]), 16, "16 class names"),
        (SPINAL.classes, 80, "on 80 outputs"),
    ],
)
def test_refuses_names(names: tuple[str, ...], outputs: int, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as refusal:
        class_order(names, SPINAL, PATH, outputs=outputs)
    assert "the 15 of spinal" in str(refusal.value)
