"""TensorRT and TensorRT-RTX: serialized engines on an NVIDIA GPU.

An engine is code for one version of one library and for certain GPUs. Without a GPU the library
ends the process instead of raising an error. This module therefore checks the driver, the plan's
header, the installed version, the GPU and the batch sizes before it creates the library's runtime.

The two libraries differ in how they repeat a run. For TensorRT, this package captures runs as CUDA
graphs. TensorRT-RTX compiles kernels when it first sees a shape, and has its own graphs, which wait
for these kernels. Its default is to replace kernels as better ones become ready; timing would then
decide the last bits of a result. Kernels are compiled at once instead, once for all contexts of
a session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from rsna_lumbar.runtime.backends import SessionSettings, constant_inputs
from rsna_lumbar.runtime.backends.cuda_runtime import Cuda, load_cuda
from rsna_lumbar.runtime.backends.tensorrt_library import (
    TROUBLE,
    Log,
    library_version,
    load_library,
)
from rsna_lumbar.runtime.backends.tensorrt_session import NewContext, TensorRTSession
from rsna_lumbar.runtime.backends.tensorrt_slot import DTYPES, output_shapes
from rsna_lumbar.runtime.bundle.plan_header import PlanHeaderError, require_plan
from rsna_lumbar.runtime.bundle.records import REBUILD, Detector, Engine, Model
from rsna_lumbar.runtime.core.errors import BackendError, UsageError
from rsna_lumbar.runtime.system.gpus import CudaDevice, cuda_devices, device_index

DEFAULT_BATCH_SIZE = 64


def open_session(
    content: Sequence[bytes], model: Model, detector: Detector, settings: SessionSettings
) -> TensorRTSession:
    """Open an engine on ``cuda:N``; its batch sizes were fixed when it was built.

    Raises:
        UsageError: the GPU does not exist, a library is missing, the engine is for another GPU or
            version, or options are given (there are none).
        BackendError: the plan is damaged, or TensorRT or CUDA rejects it.
    """
    if settings.options:
        raise UsageError(f"an engine takes no options; leave out {', '.join(settings.options)}")
    gpus = cuda_devices()
    index = device_index(settings.device, len(gpus))
    trt = load_library(model.backend)
    engine = require_fitting(content, model=model, gpu=gpus[index], installed=library_version(trt))
    cuda = Cuda(load_cuda(model.backend), index)
    with ExitStack() as undo:
        undo.callback(cuda.close)
        cuda.select()
        trt_engine = _deserialise(trt, content[0], cuda)
        _require_score_graph(trt_engine, engine, detector)
        new_context, captures = REPEATS[model.backend](trt, trt_engine)
        session = TensorRTSession(
            cuda, trt_engine, new_context, captures=captures, engine=engine, detector=detector
        )
        undo.pop_all()
    return session


def default_batch_size(device: str) -> int:
    """An engine may take fewer slices in a batch."""
    return DEFAULT_BATCH_SIZE


def require_fitting(
    content: Sequence[bytes], *, model: Model, gpu: CudaDevice, installed: str
) -> Engine:
    """Compare plan, manifest, GPU and library without loading any of them.

    Raises:
        UsageError: the engine is for another library version or GPU.
        BackendError: the plan is damaged or disagrees with the manifest.
    """
    engine, name = model.engine, model.files[0].name
    if engine is None or len(content) != 1:
        raise BackendError(f"{name}: the manifest does not describe one engine; {REBUILD}")
    try:
        require_plan(content[0], model.backend, engine.version)
    except PlanHeaderError as error:
        raise BackendError(f"{name} {error}; {REBUILD}") from error
    if installed != engine.version:
        raise UsageError(
            f"{name} was built by {model.backend} {engine.version}, installed is {installed}; "
            "install that version, or rebuild the engine here with rsna-export"
        )
    if gpu.compute_capability not in engine.compute_capabilities:
        raise UsageError(
            f"{name} is for compute capability {', '.join(engine.compute_capabilities)}, this GPU "
            f"({gpu.name}) has {gpu.compute_capability}; rebuild the engine here with rsna-export"
        )
    return engine


def _deserialise(trt: Any, plan: bytes, cuda: Cuda) -> Any:
    log = Log(trt, TROUBLE)
    # A runtime and its logger must outlive their engine; the stack releases them last.
    held: list[Any] = [log.logger]
    cuda.releases.callback(held.clear)
    held.append(trt.Runtime(log.logger))
    trt_engine = held[1].deserialize_cuda_engine(plan)
    log.raise_failure()
    if trt_engine is None:
        raise BackendError(f"TensorRT refuses the engine on {cuda.device}: {log.trouble()}")
    return trt_engine


def _require_score_graph(trt_engine: Any, engine: Engine, detector: Detector) -> None:
    """Check that the engine's tensors are those of the score graph, with these sizes."""
    largest, size_px = engine.largest_batch, detector.size_px
    wanted = {
        "slices": (largest, size_px, size_px),
        "member": (largest, largest),
        **{name: value.shape for name, value in constant_inputs(detector).items()},
        **{name: (largest, *shape) for name, shape in output_shapes(detector).items()},
    }
    names = [trt_engine.get_tensor_name(index) for index in range(trt_engine.num_io_tensors)]
    found = {name: tuple(trt_engine.get_tensor_shape(name)) for name in names}
    if found.keys() != wanted.keys() or not all(
        _agree(found[name], shape) for name, shape in wanted.items()
    ):
        raise BackendError(f"the engine's tensors are {found}, expected {wanted}; {REBUILD}")
    types = {name: trt_engine.get_tensor_dtype(name).name for name in output_shapes(detector)}
    if not set(types.values()) <= DTYPES.keys():
        raise BackendError(f"the engine answers in {types}; {REBUILD}")
    profile = [shape[0] for shape in trt_engine.get_tensor_profile_shape("slices", 0)]
    listed = [engine.least_batch, engine.best_batch, engine.largest_batch]
    if profile != listed:
        raise BackendError(f"the engine takes batches of {profile}, expected {listed}; {REBUILD}")


def _agree(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a shape (-1: dynamic) allows the wanted one."""
    return len(found) == len(wanted) and all(
        one in (-1, other) for one, other in zip(found, wanted, strict=True)
    )


def _captured(trt: Any, trt_engine: Any) -> tuple[NewContext, bool]:
    """Execution contexts of TensorRT."""
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    return lambda: trt_engine.create_execution_context(strategy), True


def _compiled(trt: Any, trt_engine: Any) -> tuple[NewContext, bool]:
    """Execution contexts of TensorRT-RTX, which share compiled kernels."""
    config = trt_engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(
        trt.ExecutionContextAllocationStrategy.USER_MANAGED
    )
    config.set_runtime_cache(config.create_runtime_cache())
    config.dynamic_shapes_kernel_specialization_strategy = (
        trt.DynamicShapesKernelSpecializationStrategy.EAGER
    )
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return lambda: trt_engine.create_execution_context(config), False


# How a library repeats a run: (module, engine) -> (makes a context, whether we capture graphs).
REPEATS: dict[str, Callable[[Any, Any], tuple[NewContext, bool]]] = {
    "tensorrt": _captured,
    "tensorrt-rtx": _compiled,
}
