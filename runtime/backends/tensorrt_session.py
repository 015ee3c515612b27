"""A TensorRT engine at work: two slots, two streams, one context for each slot and batch size.

    copy stream       slices and sets of batch k + 1 to the GPU
    compute stream    batch k: wait for its copy, run, copy results to the CPU, record its event

A slot has its own buffers on CPU and GPU, and is filled again only after its event. So a copy and
a run never use the same memory at the same time. All contexts share one scratch memory (754 MB for
YOLOv8s at 384 px and batches of 64), because they run one after the other on the compute stream.

A captured CUDA graph keeps the shapes, addresses and state of the context it was captured from, so
each slot and batch size has its own context. The first run of a context is never captured: it
includes work that a change of shapes defers, and compiling.

Batch sizes are rounded up to a few values, to keep the number of contexts, graphs and compiled
kernels (TensorRT-RTX) small. Slices added by rounding belong to no set, so their content does not
matter. Sets are filled up to the engine's fixed number of rows with empty sets, which are cut off
the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsna_lumbar.runtime.backends import OUTPUTS, Outputs, Session, Wait, constant_inputs
from rsna_lumbar.runtime.backends.cuda_runtime import Cuda
from rsna_lumbar.runtime.backends.tensorrt_slot import (
    DTYPES,
    BatchUnderWay,
    SizedContext,
    Slot,
    answer_of,
    batch_sizes,
    output_shapes,
)
from rsna_lumbar.runtime.bundle.records import Detector, Engine
from rsna_lumbar.runtime.core.errors import BackendError, UsageError

SLOTS = 2

NewContext = Callable[[], Any]


class TensorRTSession(Session):
    """Runs an engine's batches; see the module docstring."""

    ahead = SLOTS

    def __init__(
        self,
        cuda: Cuda,
        trt_engine: Any,
        new_context: NewContext,
        *,
        captures: bool,
        engine: Engine,
        detector: Detector,
    ) -> None:
        """Allocate everything that does not depend on the batch size. The session closes ``cuda``.

        ``new_context`` makes an execution context without memory of its own. ``captures``: whether
        this class captures runs as CUDA graphs.
        """
        self.device = cuda.device
        self._cuda = cuda
        self._new_context = new_context
        cuda.releases.callback(self._forget_engine)
        self._captures = captures
        self._engine = engine
        self._sizes = batch_sizes(engine)
        self._scratch_size = int(trt_engine.device_memory_size_v2)
        self._scratch = cuda.device_memory(max(1, self._scratch_size))
        self._copies, self._computes = cuda.stream(), cuda.stream()
        self._constants = self._upload_constants(detector)
        dtypes = {name: DTYPES[trt_engine.get_tensor_dtype(name).name] for name in OUTPUTS}
        self._slots = [self._slot(detector, dtypes) for _ in range(SLOTS)]
        self._next = 0
        self._closed = False

    def start(self, slices: NDArray[np.uint8], member: NDArray[np.bool_]) -> Wait:
        """Begin to score a batch; if both slots are in use, first wait for the older batch.

        Raises:
            UsageError: the batch is larger than the engine accepts.
            BackendError: CUDA or TensorRT failed.
        """
        self._require_open()
        self._require_fit(*member.shape)
        self._cuda.select()
        slot = self._slots[self._next]
        if slot.pending is not None:
            self._finish(slot.pending)
        self._next = (self._next + 1) % SLOTS
        sets, count = member.shape
        size = next(one for one in self._sizes if one >= count)
        self._upload(slot, slices, member, size)
        self._run(slot, size, sets)
        pending = slot.pending = BatchUnderWay(slot, sets)
        return lambda: self._finish(pending)

    def close(self) -> None:
        """Wait for batches in flight and release everything."""
        if not self._closed:
            self._closed = True
            self._cuda.close()

    def _forget_engine(self) -> None:
        self._new_context = _no_context

    def _require_open(self) -> None:
        if self._closed:
            raise BackendError(f"the session on {self.device} is closed")

    def _require_fit(self, sets: int, count: int) -> None:
        largest = self._engine.largest_batch
        if count > largest or sets > largest:
            raise UsageError(
                f"a batch of {count} slices in {sets} sets does not fit the engine, which takes "
                f"{largest}: use --batch-size {largest}, or rebuild it with a larger --batch-size"
            )

    def _upload(
        self, slot: Slot, slices: NDArray[np.uint8], member: NDArray[np.bool_], size: int
    ) -> None:
        sets, count = member.shape
        rows = slot.member[: self._engine.largest_batch * size].reshape(-1, size)
        rows[...] = False
        rows[:sets, :count] = member
        slot.slices[:count] = slices
        self._cuda.upload(slot.slices[:count], slot.addresses["slices"], self._copies)
        self._cuda.upload(rows, slot.addresses["member"], self._copies)
        self._cuda.record(slot.uploaded, self._copies)

    def _run(self, slot: Slot, size: int, sets: int) -> None:
        self._cuda.order(self._computes, slot.uploaded)
        if size not in slot.contexts:
            slot.contexts[size] = self._context_for(slot, size)
        self._submit(slot.contexts[size])
        for name, answer in slot.outputs.items():
            self._cuda.download(slot.addresses[name], answer[:sets], self._computes)
        self._cuda.record(slot.done, self._computes)

    def _submit(self, sized: SizedContext) -> None:
        def enqueue() -> bool:
            return bool(sized.context.execute_async_v3(self._computes))

        if self._captures and sized.runs == 1:
            sized.graph = self._cuda.capture(self._computes, enqueue)
        if sized.graph is not None:
            self._cuda.launch(sized.graph, self._computes)
        elif not enqueue():
            raise BackendError(f"TensorRT did not accept a batch on {self.device}")
        sized.runs += 1

    def _finish(self, pending: BatchUnderWay) -> Outputs:
        if pending.answer is None:
            self._require_open()
            self._cuda.select()
            self._cuda.wait(pending.slot.done)
            pending.answer = answer_of(pending.slot.outputs, pending.sets)
            pending.slot.pending = None
        return pending.answer

    def _upload_constants(self, detector: Detector) -> dict[str, int]:
        addresses = {}
        for name, value in constant_inputs(detector).items():
            host = self._cuda.pinned(value.shape, value.dtype)
            host[...] = value
            addresses[name] = self._cuda.device_memory(host.nbytes)
            # before any batch in this stream
            self._cuda.upload(host, addresses[name], self._copies)
        return addresses

    def _slot(self, detector: Detector, dtypes: Mapping[str, Any]) -> Slot:
        largest, size_px = self._engine.largest_batch, detector.size_px
        slices = self._cuda.pinned((largest, size_px, size_px), np.uint8)
        member = self._cuda.pinned((largest * largest,), np.bool_)
        outputs = {
            name: self._cuda.pinned((largest, *shape), dtypes[name])
            for name, shape in output_shapes(detector).items()
        }
        buffers = {"slices": slices, "member": member, **outputs}
        addresses = {
            name: self._cuda.device_memory(buffer.nbytes) for name, buffer in buffers.items()
        }
        return Slot(slices, member, outputs, addresses, self._cuda.event(), self._cuda.event())

    def _context_for(self, slot: Slot, size: int) -> SizedContext:
        context = self._new_context()
        if context is None:
            raise BackendError(f"TensorRT made no execution context on {self.device}")
        sized = SizedContext(context)
        self._cuda.releases.callback(sized.close)
        context.set_device_memory(self._scratch, self._scratch_size)
        size_px = slot.slices.shape[1]
        shapes = {
            "slices": (size, size_px, size_px),
            "member": (self._engine.largest_batch, size),
        }
        taken = [context.set_input_shape(name, shape) for name, shape in shapes.items()]
        for name, address in {**self._constants, **slot.addresses}.items():
            taken.append(context.set_tensor_address(name, address))
        if not all(taken):
            raise BackendError(f"TensorRT refuses a batch of {size} slices on {self.device}")
        return sized


def _no_context() -> None:
    """Stands in for ``new_context`` after the engine was released."""
