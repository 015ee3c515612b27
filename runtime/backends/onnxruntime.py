"""ONNX Runtime on the CPU, or on CUDA if CUDA can really be loaded.

ONNX Runtime falls back to the CPU silently if CUDA cannot be loaded, so this module compares the
provider that a session ended up with to the requested one. Arrays go in and out by IO binding; the
constant inputs stay on the device.

Sessions share one memory arena, because they run one at a time. Three YOLOv8s models at 384 px and
batches of 16 take 0.6 GB this way, and 1.9 GB with one arena each and memory planned by shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import OUTPUTS, Outputs, SessionSettings, constant_inputs
from rsna_lumbar.runtime.backends.lane import LaneSession
from rsna_lumbar.runtime.bundle.records import Detector, Model
from rsna_lumbar.runtime.core.errors import BackendError, UsageError
from rsna_lumbar.runtime.system.machine import CPU, has_vnni

CUDA_PROVIDER = "CUDAExecutionProvider"
CPU_PROVIDER = "CPUExecutionProvider"
_REGISTERING = Lock()
ERRORS_ONLY = 3  # ONNX Runtime's log severity
# How a tensor names its external data file (StringStringEntryProto, key "location").
EXTERNAL_DATA = b"\x0a\x08location"

ort.disable_telemetry_events()  # in case it was imported before this package


class OnnxSession(LaneSession):
    """A score graph opened in ONNX Runtime."""

    library = "ONNX Runtime"

    def __init__(self, session: ort.InferenceSession, device: str, detector: Detector) -> None:
        self.device = device
        kind, _, number = device.partition(":")
        place = (kind, int(number or 0))
        self._session: ort.InferenceSession | None = session
        self._binding: Any = session.io_binding()
        self._constants = {
            name: ort.OrtValue.ortvalue_from_numpy(value, *place)
            for name, value in constant_inputs(detector).items()
        }

    def infer(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        session, binding = self._session, self._binding
        assert session is not None, "the session is closed"
        binding.clear_binding_inputs()
        binding.clear_binding_outputs()
        for name, value in self._constants.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_cpu_input("slices", slices)
        binding.bind_cpu_input("member", member)
        for name in OUTPUTS:
            binding.bind_output(name, CPU)
        session.run_with_iobinding(binding)
        return Outputs(*binding.copy_outputs_to_cpu())

    def close(self) -> None:
        self._binding = None
        self._constants = {}
        self._session = None


def open_session(
    content: Sequence[bytes], model: Model, detector: Detector, settings: SessionSettings
) -> OnnxSession:
    """Open an ONNX score graph for any batch size; a fixed batch size would not be faster.

    Raises:
        UsageError: a GPU was requested and CUDA cannot be loaded, or a config entry is rejected.
        BackendError: ONNX Runtime rejects the model, or the model refers to other files.
    """
    if EXTERNAL_DATA in content[0]:
        raise BackendError(f"{model.files[0].name} keeps data in other files, which no hash covers")
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.enable_mem_pattern = False  # it plans a memory block for each batch size
    options.add_session_config_entry("session.use_env_allocators", "1")
    with _REGISTERING:  # the cache alone would let two threads in at once
        _share_arena()
    if model.precision == "int8":
        keep_integers_exact(options)
    for name, value in settings.options.items():
        try:
            options.add_session_config_entry(name, value)
        except (RuntimeError, TypeError) as error:
            raise UsageError(f"ONNX Runtime refuses the config entry {name}: {error}") from error
    session = _create(content[0], options, settings.device)
    return OnnxSession(session, settings.device, detector)


def keep_integers_exact(options: Any) -> None:
    """Stop 8-bit kernels from saturating on a CPU without VNNI, by an option of the session.

    On a CPU with VNNI the option would change no result and halve the speed, so it stays off.
    """
    if not has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")


def default_batch_size(device: str) -> int:
    """Slices per batch: enough to keep the device busy, but no more, since memory grows with it.

    On the CPU the time per slice varies by less than 4 % from 4 to 16 slices.
    """
    return 8 if device == CPU else 64


@cache
def _share_arena() -> None:
    arena = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = ort.OrtMemoryInfo("Cpu", arena, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(place, None)


def _create(content: bytes, options: ort.SessionOptions, device: str) -> ort.InferenceSession:
    providers: list[Any] = [CPU_PROVIDER]
    if device != CPU:
        providers = [_cuda_provider(device), CPU_PROVIDER]
        ort.preload_dlls()  # finds the CUDA libraries that pip installed
    try:
        session = ort.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no base class but Exception
        raise BackendError(f"ONNX Runtime refuses the model on {device}: {error}") from error
    if device != CPU and session.get_providers()[0] != CUDA_PROVIDER:
        raise UsageError(
            f"ONNX Runtime could not load CUDA for {device}; install the extra [cuda], update "
            "the NVIDIA driver to 580 or newer, or use --device cpu"
        )
    return session


def _cuda_provider(device: str) -> tuple[str, dict[str, Any]]:
    """CUDA provider and its options. TF32, its default, has three digits less than float32."""
    if not _has_cuda_build():
        raise UsageError(f"this ONNX Runtime has no CUDA; install onnxruntime-gpu for {device}")
    return CUDA_PROVIDER, {"device_id": int(device.partition(":")[2]), "use_tf32": 0}


def _has_cuda_build() -> bool:
    return CUDA_PROVIDER in ort.get_available_providers()
