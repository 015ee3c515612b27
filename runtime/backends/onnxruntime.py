"""ONNX Runtime on the CPU, or on CUDA where it is really there.

ONNX Runtime falls back to the CPU without a word when CUDA cannot be loaded, so the provider
that a session ended up with is compared with the one that was asked for.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import Outputs
from rsna_lumbar.runtime.backends.cuda import cuda_device_count
from rsna_lumbar.runtime.bundle import Detector
from rsna_lumbar.runtime.errors import BackendError, UsageError

CUDA_PROVIDER = "CUDAExecutionProvider"
CPU_PROVIDER = "CPUExecutionProvider"
FIRST_GPU = "cuda:0"
OUTPUTS = ("peak", "probability", "slice", "cell")
ERRORS_ONLY = 3  # ONNX Runtime's log severity

ort.disable_telemetry_events()


class OnnxSession:
    """A score graph opened in ONNX Runtime, with the detector's calibration bound to it."""

    def __init__(
        self, session: ort.InferenceSession, device: str, detector: Detector, note: str = ""
    ) -> None:
        self.device = device
        self.note = note
        self._session: ort.InferenceSession | None = session
        self._constants = _constant_inputs(detector)

    def run(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        """Score slices (N, S, S) whose sets are given by member (G, N)."""
        assert self._session is not None, "the session is closed"
        feed = {"slices": slices, "member": member, **self._constants}
        try:
            return Outputs(*self._session.run(OUTPUTS, feed))
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            raise BackendError(f"ONNX Runtime failed on {self.device}: {error}") from error

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_session(content: bytes, *, detector: Detector, device: str, threads: int) -> OnnxSession:
    """Open an ONNX score graph. ``auto`` is the first GPU where there is one, else the CPU.

    Raises:
        UsageError: a GPU was asked for by name and cannot be had.
        BackendError: ONNX Runtime refuses the model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    if device != "auto":
        return OnnxSession(_create(content, options, device), device, detector)
    note = "no NVIDIA GPU found"
    if cuda_device_count():
        try:
            return OnnxSession(_create(content, options, FIRST_GPU), FIRST_GPU, detector)
        except (UsageError, BackendError) as error:
            note = str(error)
    return OnnxSession(_create(content, options, "cpu"), "cpu", detector, note)


def default_batch_size(device: str) -> int:
    """Slices a batch: enough to keep the device busy, small enough to stay in its memory."""
    return 16 if device == "cpu" else 64


def _create(content: bytes, options: ort.SessionOptions, device: str) -> ort.InferenceSession:
    providers: list[Any] = [CPU_PROVIDER]
    if device != "cpu":
        _require_cuda(device)
        providers = [(CUDA_PROVIDER, {"device_id": int(device.partition(":")[2])}), CPU_PROVIDER]
        ort.preload_dlls()  # finds the CUDA libraries that pip installed
    try:
        session = ort.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        raise BackendError(f"ONNX Runtime refuses the model on {device}: {error}") from error
    if device != "cpu" and session.get_providers()[0] != CUDA_PROVIDER:
        raise UsageError(
            f"ONNX Runtime could not load CUDA for {device}; install the extra [cuda], update "
            "the NVIDIA driver to 580 or newer, or use --device cpu"
        )
    return session


def _require_cuda(device: str) -> None:
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number.isdigit():
        raise UsageError(f"no device {device!r}; there is auto, cpu, cuda:0, cuda:1, ...")
    count = cuda_device_count()
    if int(number) >= count:
        raise UsageError(f"{device} is not there: {count} NVIDIA GPUs found; use --device cpu")
    if not _has_cuda_build():
        raise UsageError(f"this ONNX Runtime has no CUDA; install onnxruntime-gpu for {device}")


def _has_cuda_build() -> bool:
    return CUDA_PROVIDER in ort.get_available_providers()


def _constant_inputs(detector: Detector) -> dict[str, NDArray[np.float32]]:
    calibration = detector.calibration
    return {
        "temperature": np.array([calibration.temperature], np.float32),
        "bias": np.array(calibration.bias, np.float32),
        "floor": np.array([calibration.floor], np.float32),
        "prior": np.array(detector.prior, np.float32),
    }
