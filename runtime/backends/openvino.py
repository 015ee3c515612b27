"""OpenVINO on the CPU: float32, bfloat16 on CPUs that compute in it, and int8.

By default OpenVINO runs a float32 model in bfloat16 if the CPU supports it, and runs a bfloat16
model in float32 if the CPU does not. This module therefore always requests a precision and then
reads back which precision the compiled convolutions use.

A model is compiled for one batch size; smaller batches are padded with slices that belong to no
set. A dynamic batch size would add 1 to 12 % to the time per slice (YOLOv8n 8 % in float32, 12 in
bfloat16, 6 in int8; YOLOv8s 1, 10 and 3), and in int8 another 0.1 to 0.2 s for each batch size that
is new to a model.

One stream uses all threads: two streams on two cores gave 6 % more slices per second, but would
leave a core idle if a study fills only one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import OUTPUTS, Outputs, SessionSettings, constant_inputs
from rsna_lumbar.runtime.backends.lane import LaneSession
from rsna_lumbar.runtime.backends.openvino_cache import compiled_once
from rsna_lumbar.runtime.backends.openvino_library import load_openvino, openvino_core
from rsna_lumbar.runtime.bundle.records import Detector, Model
from rsna_lumbar.runtime.core.errors import BackendError, UsageError
from rsna_lumbar.runtime.system.machine import CPU, this_machine

ANY = -1  # a dynamic dimension
BATCH_SIZE = 8  # from 4 to 16 the time per slice varies by less than 8 %; memory grows with it


@dataclass(frozen=True, slots=True)
class Mode:
    """The precision requested from OpenVINO, and the precision its convolutions must then use."""

    hint: str  # default precision for all operations that the model does not fix
    runs_in: tuple[str, ...]  # accepted precisions, by OpenVINO's names
    least_share: float  # least share of convolutions that must use them
    needs: str = ""  # what the CPU must support


MODES: Mapping[str, Mode] = {
    "fp32": Mode("f32", ("f32",), 1.0),
    "bf16": Mode("bf16", ("bf16",), 1.0, "AVX-512 BF16 or AMX"),
    # Float parts in bfloat16 are no faster (7.0 and 7.0 ms), and need a newer CPU.
    "int8": Mode("f32", ("u8", "i8"), 0.5),
}


class OpenVinoSession(LaneSession):
    """A score graph compiled by OpenVINO."""

    library, device = "OpenVINO", CPU

    def __init__(self, compiled: Any, detector: Detector, batch_size: int | None) -> None:
        self._batch_size = batch_size
        self._compiled: Any = compiled
        self._request: Any = compiled.create_infer_request()
        self._constants = constant_inputs(detector)

    def infer(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Outputs:
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
        request.infer({**feed, **self._constants}, share_inputs=True)
        return Outputs(*(request.get_tensor(name).data.copy() for name in OUTPUTS))

    def close(self) -> None:
        self._request = self._compiled = None


def open_session(
    content: Sequence[bytes], model: Model, detector: Detector, settings: SessionSettings
) -> OpenVinoSession:
    """Open a score graph in OpenVINO's format: the XML file and the weights.

    Raises:
        UsageError: the device is not ``cpu``, or this CPU or OpenVINO does not support the
            precision.
        BackendError: OpenVINO rejects the model.
    """
    if settings.device != CPU:
        raise UsageError(
            f"openvino runs on the CPU only, not on {settings.device}; use --device cpu"
        )
    mode = MODES.get(model.precision)
    if mode is None:
        raise UsageError(f"openvino has no {model.precision}; it has {', '.join(MODES)}")
    compiled = _compile(content, mode, settings)
    _require_precision(compiled, model.precision, mode)
    return OpenVinoSession(compiled, detector, settings.batch_size)


def default_batch_size(device: str) -> int:
    return BATCH_SIZE


def _compile(content: Sequence[bytes], mode: Mode, settings: SessionSettings) -> Any:
    openvino = load_openvino()
    structure, weights = content
    batch_size = settings.batch_size
    options = {
        "INFERENCE_PRECISION_HINT": mode.hint,
        "INFERENCE_NUM_THREADS": settings.threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # containers share cores
        **settings.options,
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
    """Shapes of the inputs that hold slices; the number of sets is dynamic."""
    side = model.input("slices").get_partial_shape()[1].get_length()
    return {"slices": [batch_size, side, side], "member": [ANY, batch_size]}


def _require_precision(compiled: Any, precision: str, mode: Mode) -> None:
    """Refuse a model that would run in another precision."""
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
    """The precision that each convolution of a compiled model really uses."""
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    return [
        str(info["runtimePrecision"].value)
        for info in infos
        if info["layerType"].value == "Convolution"
    ]
