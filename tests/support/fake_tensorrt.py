"""A TensorRT module whose engines run a toy score graph by ONNX Runtime on a fake CUDA.

It is as strict as TensorRT is where being wrong would only show on a GPU: a run needs all shapes,
addresses and scratch memory; the first run after a change of shapes cannot be captured; a captured
run may not be replayed once its context has changed.
"""

from __future__ import annotations

import struct
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
from fake_cuda import FakeCuda, Operation

MAGICS = {"tensorrt": 0x74727466, "tensorrt-rtx": 0x74727476}
VERSION = "1.2.3.4"
SCRATCH_BYTES = 4096
INPUTS = ("slices", "member", "temperature", "bias", "floor", "prior")
OUTPUTS = ("peak", "probability", "slice", "cell")
NUMPY = {"FLOAT": np.float32, "INT32": np.int32, "INT64": np.int64, "HALF": np.float16}


def fake_plan(library: str, version: str = VERSION, body: bytes = b"engine") -> bytes:
    """A plan that says of itself what a real one would."""
    numbers = bytes(map(int, version.split(".")))
    header = struct.pack("<II8xQ", MAGICS[library], 0, 28 + len(body)) + numbers
    return header + body


class Severity(Enum):
    ERROR = 1
    WARNING = 2


class ILogger:
    def log(self, severity: Severity, text: str) -> None:
        raise NotImplementedError


class FakeTensorRT:
    """What ``import tensorrt`` gives: a module for engines of one graph."""

    def __init__(self, cuda: FakeCuda, graph: bytes, *, largest: int, size_px: int) -> None:
        self.__version__ = VERSION
        self.ILogger = ILogger
        self.cuda = cuda
        self.largest = largest
        self.size_px = size_px
        self.profile = (1, largest, largest)
        self.index_dtype = "INT64"  # of slice and cell
        self.refuses: str | None = None  # what the runtime logs while it refuses a plan
        self.accepts = True  # runs, whatever they lack
        self.runs = 0
        self.opened: list[bytes] = []  # plans that a runtime was given
        self.living = 0  # contexts
        self.gone: list[str] = []  # what was let go, in order
        self.session = ort.InferenceSession(graph, _options(), ["CPUExecutionProvider"])
        self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
        self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
        self.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")

    def Runtime(self, logger: ILogger) -> Runtime:  # TensorRT's own name
        return Runtime(self, logger)


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


class Runtime:
    def __init__(self, module: FakeTensorRT, logger: ILogger) -> None:
        assert module.cuda.devices, "a runtime before its device was chosen"
        self.module = module
        self.logger = logger

    def __del__(self) -> None:
        self.module.gone.append("runtime")

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        self.module.opened.append(plan)
        if self.module.refuses:
            self.logger.log(Severity.ERROR, self.module.refuses)
            return None
        return Engine(self.module)


class RuntimeConfig:
    """TensorRT-RTX's settings of an execution context."""

    dynamic_shapes_kernel_specialization_strategy = "lazy"
    cuda_graph_strategy = "disabled"

    def __init__(self) -> None:
        self.strategy = "static"
        self.cache: object | None = None

    def create_runtime_cache(self) -> object:
        return object()

    def set_runtime_cache(self, cache: object) -> bool:
        self.cache = cache
        return True

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy


class Engine:
    device_memory_size_v2 = SCRATCH_BYTES

    def __init__(self, module: FakeTensorRT) -> None:
        self.module = module
        shapes = {one.name: one.shape for one in module.session.get_inputs()}
        shapes |= {one.name: one.shape for one in module.session.get_outputs()}
        sizes = {"G": module.largest, "N": -1}
        self.shapes = {
            name: tuple(sizes.get(side, side) for side in shape) for name, shape in shapes.items()
        }
        self.num_io_tensors = len(self.shapes)

    def __del__(self) -> None:
        self.module.gone.append("engine")

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name={"slice": self.module.index_dtype}.get(name, self._dtype(name)))

    def _dtype(self, name: str) -> str:
        return self.module.index_dtype if name == "cell" else "FLOAT"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("slices", 0)
        return [(size, *self.shapes[name][1:]) for size in self.module.profile]

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, how: Any) -> Context:
        if isinstance(how, RuntimeConfig):
            assert how.strategy == "user" and how.cache is not None
            assert how.dynamic_shapes_kernel_specialization_strategy == "eager"
            assert how.cuda_graph_strategy == "whole"
        else:
            assert how == "user"
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.module = engine.module  # and not the engine: who opened it must keep it
        self.tensors = dict(engine.shapes)
        self.dtypes = {name: NUMPY[engine.get_tensor_dtype(name).name] for name in OUTPUTS}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch: tuple[int, int] | None = None
        self.changes = 0
        self.settled = False  # a run has taken in the last change of shapes
        self.module.living += 1

    def __del__(self) -> None:
        self.module.living -= 1
        self.module.gone.append("context")

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= SCRATCH_BYTES
        self.scratch = (address, size)
        self.changes += 1

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        count = shape[0] if name == "slices" else shape[1]
        self.shapes[name] = shape
        self.changes += 1
        self.settled = False
        return self.module.profile[0] <= count <= self.module.profile[2]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        self.changes += 1
        return name in self.tensors

    def execute_async_v3(self, stream: int) -> bool:
        cuda = self.module.cuda
        if not self.module.accepts:
            return False
        if self.addresses.keys() != self.tensors.keys() or self.scratch is None:
            return False
        if cuda.recording(stream) and not self.settled:
            return False
        self.settled = True
        changes = self.changes

        def run() -> None:
            assert changes == self.changes, "a captured run after its context has changed"
            self._run()

        cuda.submit(stream, Operation(run))
        return True

    def _run(self) -> None:
        cuda = self.module.cuda
        assert self.scratch is not None
        cuda.array(self.scratch[0], (self.scratch[1],), np.uint8, "device")[...] = 0x5A
        feed = {
            one.name: cuda.array(
                self.addresses[one.name],
                self.shapes.get(one.name, self.tensors[one.name]),
                {"slices": np.uint8, "member": np.bool_}.get(one.name, np.float32),
                "device",
            ).copy()
            for one in self.module.session.get_inputs()
        }
        for name, value in zip(OUTPUTS, self.module.session.run(OUTPUTS, feed), strict=True):
            target = cuda.array(self.addresses[name], value.shape, self.dtypes[name], "device")
            target[...] = value
        self.module.runs += 1
