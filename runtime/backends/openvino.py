"""OpenVINO on the CPU: float32, bfloat16 on CPUs that compute in it, and int8.

Left alone, OpenVINO takes bfloat16 for a float32 model where the CPU has it, and float32 for what
was asked in bfloat16 where it has not. So the precision is always asked for, and what the
compiled convolutions run in is read back.

A model is compiled for the size of its batches, and smaller ones are filled up with slices that
belong to no set. Left open, that size costs 1 to 12 % of a slice's time (YOLOv8n 8 % in float32, 12
in bfloat16, 6 in int8; YOLOv8s 1, 10 and 3), and in int8 0.1 to 0.2 s for each number of slices
that is new to a model.

One stream on all threads: two streams on two cores gave 6 % more slices a second, and would leave a
core idle where a study fills one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import NO_OPTIONS, Outputs, constant_inputs
from rsna_lumbar.runtime.backends.lane import LaneSession
from rsna_lumbar.runtime.backends.openvino_cache import compiled_once
from rsna_lumbar.runtime.backends.openvino_library import load_openvino, openvino_core
from rsna_lumbar.runtime.bundle.records import Detector, Model
from rsna_lumbar.runtime.core.errors import BackendError, UsageError, run_failed
from rsna_lumbar.runtime.system.machine import this_machine

CPU = "cpu"
OUTPUTS = ("peak", "probability", "slice", "cell")
ANY = -1  # of a dimension
BATCH_SIZE = 8  # from 4 to 16 the time a slice is the same within 8 %, and memory goes with it


@dataclass(frozen=True, slots=True)
class Mode:
    """What OpenVINO is asked for, and what its convolutions must then run in."""

    hint: str  # for everything that the model leaves open
    runs_in: tuple[str, ...]  # OpenVINO's names
    least_share: float  # of the convolutions
    needs: str = ""  # of the CPU


MODES: Mapping[str, Mode] = {
    "fp32": Mode("f32", ("f32",), 1.0),
    "bf16": Mode("bf16", ("bf16",), 1.0, "AVX-512 BF16 or AMX"),
    # The float parts in bfloat16 are no faster (7.0 and 7.0 ms), and need a newer CPU.
    "int8": Mode("f32", ("u8", "i8"), 0.5),
}


class OpenVinoSession(LaneSession):
    """A score graph compiled by OpenVINO."""

    device = CPU

    def __init__(self, compiled: Any, detector: Detector, batch_size: int | None) -> None:
        self._batch_size = batch_size
        self._compiled: Any = compiled
        self._request: Any = compiled.create_infer_request()
        self._constants = constant_inputs(detector)

    def compute(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
        request = self._request
        assert request is not None, "the session is closed"
        missing = (self._batch_size or len(slices)) - len(slices)
        if missing < 0:
            raise BackendError(
                f"{len(slices)} slices are too many for batches of {self._batch_size}"
            )
        feed = {
            "slices": np.pad(slices, ((0, missing), (0, 0), (0, 0))) if missing else slices,
            "member": np.pad(member, ((0, 0), (0, missing))) if missing else member,
        }
        feed = {name: np.ascontiguousarray(value) for name, value in feed.items()}
        try:
            request.infer({**feed, **self._constants}, share_inputs=True)
        except Exception as error:  # OpenVINO raises plain RuntimeError, and TypeError for shapes
            raise run_failed(f"OpenVINO failed on cpu: {error}") from error
        return Outputs(*(request.get_tensor(name).data.copy() for name in OUTPUTS))

    def close(self) -> None:
        self._request = self._compiled = None


def open_session(
    content: Sequence[bytes],
    *,
    model: Model,
    detector: Detector,
    device: str,
    threads: int,
    batch_size: int | None = None,
    options: Mapping[str, str] = NO_OPTIONS,
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
    compiled = _compile(content, mode, threads, batch_size, options)
    _require_precision(compiled, model.precision, mode)
    return OpenVinoSession(compiled, detector, batch_size)


def default_batch_size(device: str) -> int:
    """Slices in a batch, whatever the device."""
    return BATCH_SIZE


def _compile(
    content: Sequence[bytes],
    mode: Mode,
    threads: int,
    batch_size: int | None,
    asked: Mapping[str, str],
) -> Any:
    openvino = load_openvino()
    structure, weights = content
    options = {
        "INFERENCE_PRECISION_HINT": mode.hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # containers share cores
        **asked,
    }
    core = openvino_core()

    def compile_model() -> Any:
        tensor = openvino.Tensor(np.frombuffer(weights, np.uint8))
        model = core.read_model(structure.decode(), tensor)
        if batch_size:
            model.reshape(_shapes(model, batch_size))
        return core.compile_model(model, "CPU", options)

    def load(blob: NDArray[np.uint8]) -> Any:
        return core.import_model(openvino.Tensor(blob), "CPU", options)

    made_by = (openvino.__version__, this_machine().processor, sorted(options.items()), batch_size)
    try:
        return compiled_once((*content, repr(made_by).encode()), compile_model, load)
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"OpenVINO refuses the model: {error}") from error


def _shapes(model: Any, batch_size: int) -> dict[str, list[int]]:
    """Of the inputs that hold slices: any number of sets."""
    side = model.input("slices").get_partial_shape()[1].get_length()
    return {"slices": [batch_size, side, side], "member": [ANY, batch_size]}


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
