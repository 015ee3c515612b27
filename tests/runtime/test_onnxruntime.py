"""What ONNX Runtime is told, by precision and processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from toys import PRIOR_ROW, SIZE_PX, TOY_MODEL, toy_model

from rsna_lumbar.runtime.backends import SessionSettings
from rsna_lumbar.runtime.backends import onnxruntime as backend
from rsna_lumbar.runtime.bundle.records import Detector
from rsna_lumbar.runtime.core.errors import BackendError, UsageError
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.system.gpus import cuda_devices

DETECTOR = Detector(
    SPINAL, SIZE_PX, Calibration(), (PRIOR_ROW,) * len(SPINAL.locations), "mean", ()
)
PRECISE = "session.x64quantprecision"


def open_session(precision: str = "fp32", device: str = "cpu") -> backend.OnnxSession:
    model = replace(TOY_MODEL, precision=precision)
    content = [toy_model(SPINAL)]
    return backend.open_session(content, model, DETECTOR, SessionSettings(device, 1))


@pytest.mark.parametrize(
    ("precision", "vnni", "set_to"),
    [("int8", False, "1"), ("int8", True, None), ("fp32", False, None), ("fp16", False, None)],
)
def test_integers_do_not_saturate_without_vnni(
    precision: str, vnni: bool, set_to: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    create = ort.InferenceSession

    def spy(content: bytes, options: Any, **others: Any) -> Any:
        try:
            seen.append(options.get_session_config_entry(PRECISE))
        except RuntimeError:  # ONNX Runtime's way to say that it is not set
            seen.append(None)
        return create(content, options, **others)

    monkeypatch.setattr(backend, "has_vnni", lambda: vnni)
    monkeypatch.setattr(ort, "InferenceSession", spy)
    open_session(precision).close()
    assert seen == [set_to]


def test_a_model_that_would_read_other_files_is_refused(tmp_path: Path) -> None:
    graph = onnx.load_from_string(toy_model(SPINAL))
    weights = onnx.numpy_helper.from_array(np.zeros(2000, np.float32), "weights")
    graph.graph.initializer.append(weights)
    onnx.save_model(
        graph,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="secret",
        size_threshold=9,
    )
    content = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(BackendError, match="keeps data in other files"):
        backend.open_session([content], TOY_MODEL, DETECTOR, SessionSettings("cpu", 1))


@pytest.mark.skipif(bool(cuda_devices()), reason="there is a GPU; CUDA may be loaded")
def test_cuda_that_cannot_be_loaded_is_never_the_cpu() -> None:
    """ONNX Runtime itself falls back to the CPU without a word."""
    with pytest.raises(UsageError, match=r"(could not load CUDA|has no CUDA)"):
        open_session(device="cuda:0")
