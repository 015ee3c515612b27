"""OpenVINO on the CPU: float32, bfloat16 on CPUs that compute in it, and int8.

Left alone, OpenVINO takes bfloat16 for a float32 model where the CPU has it, and float32 for what
was asked in bfloat16 where it has not. So the precision is always asked for, and what the
compiled convolutions run in is read back.

Kernels are compiled for each number of slices that is seen, in int8 0.1 to 0.2 s a model. So its
batches are filled up to a multiple of four, with slices that belong to no set.

One stream on all threads: two streams on two cores gave 6 % more slices a second, and would leave a
core idle where a study fills one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import Outputs, constant_inputs
from rsna_lumbar.runtime.backends.lane import LaneSession
from rsna_lumbar.runtime.backends.openvino_cache import compiled_once
from rsna_lumbar.runtime.backends.openvino_library import load_openvino
from rsna_lumbar.runtime.bundle import Detector, Model
from rsna_lumbar.runtime.errors import BackendError, UsageError
from rsna_lumbar.runtime.machine import this_machine

CPU = "cpu"
OUTPUTS = ("peak", "probability", "slice", "cell")
BATCH_SIZE = 8  # from 4 to 16 the time a slice is the same within 8 %, and memory goes with it


@dataclass(frozen=True, slots=True)
class Mode:
    """What OpenVINO is asked for, and what its convolutions must then run in."""

    hint: str  # for everything that the model leaves open
    runs_in: tuple[str, ...]  # OpenVINO's names
    least_share: float  # of the convolutions
    needs: str = ""  # of the CPU
    multiple: int = 1  # of slices in a batch


MODES: Mapping[str, Mode] = {
    "fp32": Mode("f32", ("f32",), 1.0),
    "bf16": Mode("bf16", ("bf16",), 1.0, "AVX-512 BF16 or AMX"),
    # The float parts in bfloat16 are no faster (7.0 and 7.0 ms), and need a newer CPU.
    "int8": Mode("f32", ("u8", "i8"), 0.5, multiple=4),
}


class OpenVinoSession(LaneSession):
    """A score graph compiled by OpenVINO."""

    device = CPU

    def __init__(self, compiled: Any, detector: Detector, multiple: int) -> None:
        self._multiple = multiple
        self._compiled: Any = compiled
        self._request: Any = compiled.create_infer_request()
        self._constants = constant_inputs(detector)

    def compute(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        request = self._request
        assert request is not None, "the session is closed"
        missing = -len(slices) % self._multiple
        feed = {
            "slices": np.pad(slices, ((0, missing), (0, 0), (0, 0))) if missing else slices,
            "member": np.pad(member, ((0, 0), (0, missing))) if missing else member,
        }
        feed = {name: np.ascontiguousarray(value) for name, value in feed.items()}
        try:
            request.infer({**feed, **self._constants}, share_inputs=True)
        except Exception as error:  # OpenVINO raises plain RuntimeError, and TypeError for shapes
            raise BackendError(f"OpenVINO failed on cpu: {error}") from error
        return Outputs(*(request.get_tensor(name).data.copy() for name in OUTPUTS))

    def close(self) -> None:
        self._request = self._compiled = None


def open_session(
    content: Sequence[bytes], *, model: Model, detector: Detector, device: str, threads: int
) -> OpenVinoSession:
    """Open a score graph in OpenVINO's format: the XML file and the weights.

    Raises:
        UsageError: another device than ``cpu``, or this CPU or this OpenVINO lacks the precision.
        BackendError: OpenVINO refuses the model.
    """
    if device != CPU:
        raise UsageError(f"openvino runs on the CPU only, not on {device}; use --device cpu")
    mode = MODES.get(model.precision)
    if mode is None:
        raise UsageError(f"openvino has no {model.precision}; it has {', '.join(MODES)}")
    compiled = _compile(content, mode, threads)
    _require_precision(compiled, model.precision, mode)
    return OpenVinoSession(compiled, detector, mode.multiple)


def default_batch_size(device: str) -> int:
    """Slices in a batch, whatever the device."""
    return BATCH_SIZE


def _compile(content: Sequence[bytes], mode: Mode, threads: int) -> Any:
    openvino = load_openvino()
    structure, weights = content
    options = {
        "INFERENCE_PRECISION_HINT": mode.hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # containers share cores
    }
    core = openvino.Core()

    def compile_model() -> Any:
        tensor = openvino.Tensor(np.frombuffer(weights, np.uint8))
        return core.compile_model(core.read_model(structure.decode(), tensor), "CPU", options)

    def load(blob: NDArray[np.uint8]) -> Any:
        return core.import_model(openvino.Tensor(blob), "CPU", options)

    made_by = (openvino.__version__, this_machine().processor, sorted(options.items()))
    try:
        return compiled_once((*content, repr(made_by).encode()), compile_model, load)
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"OpenVINO refuses the model: {error}") from error


def _require_precision(compiled: Any, precision: str, mode: Mode) -> None:
    """A model that would run in another precision is not run."""
    found = convolution_precisions(compiled)
    right = sum(one in mode.runs_in for one in found)
    if right < mode.least_share * len(found):
        others = ", ".join(sorted(set(found).difference(mode.runs_in)))
        needs = f", which needs {mode.needs}" if mode.needs else ""
        raise UsageError(
            f"OpenVINO runs {len(found) - right} of {len(found)} convolutions in {others} on this "
            f"CPU, not in {precision}{needs}; choose another precision"
        )


def convolution_precisions(compiled: Any) -> list[str]:
    """What each convolution of a compiled model really runs in."""
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    return [
        str(info["runtimePrecision"].value)
        for info in infos
        if info["layerType"].value == "Convolution"
    ]
