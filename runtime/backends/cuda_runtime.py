"""CUDA runtime calls on one GPU: memory, copies, streams, events, graphs; through cuda-bindings.

Handles and addresses are plain integers here. ``close`` releases all resources, newest first, and
continues if one release fails.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rsna_lumbar.runtime.core.errors import UsageError, run_failed

ADVICE = {
    "cudaErrorInsufficientDriver": "; the NVIDIA driver is older than the CUDA of cuda-bindings: "
    "update it",
    "cudaErrorMemoryAllocation": "; the GPU's memory is full: end what else uses it, or rebuild "
    "the engine with a smaller --batch-size",
}


def load_cuda(extra: str) -> Any:
    """Import the CUDA runtime of cuda-bindings, which this ``extra`` of the package installs.

    Raises:
        UsageError: cuda-bindings is not installed.
    """
    try:
        return import_module("cuda.bindings.runtime")
    except (ImportError, OSError) as error:
        raise UsageError(
            f"cuda-bindings cannot be loaded ({error}): pip install 'rsna-lumbar[{extra}]'"
        ) from error


class Cuda:
    """One GPU. Only one thread may use it at a time, and must call ``select`` first.

    Every method raises BackendError with the name of the failed call and CUDA's error name.
    """

    def __init__(self, api: Any, index: int) -> None:
        self.device = f"cuda:{index}"
        self.releases = ExitStack()  # for callers: resources to release in the same order
        self._api = api
        self._index = index
        self._streams: list[int] = []

    def select(self) -> None:
        """Make this GPU the current one of the calling thread."""
        self._call("cudaSetDevice", self._index)

    def device_memory(self, size: int) -> int:
        """Allocate this many bytes on the GPU; the address is aligned to 256."""
        (address,) = self._call("cudaMalloc", size)
        self.releases.callback(self._call, "cudaFree", address)
        return int(address)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of zeros in page-locked memory, which asynchronous copies need."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        (address,) = self._call("cudaMallocHost", size)
        self.releases.callback(self._call, "cudaFreeHost", address)
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))
        memory[...] = 0
        return memory.view(dtype).reshape(shape)

    def stream(self) -> int:
        """A stream that does not synchronise with the default stream."""
        (stream,) = self._call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking)
        self.releases.callback(self._call, "cudaStreamDestroy", stream)
        self._streams.append(int(stream))
        return int(stream)

    def event(self) -> int:
        """An event without timing. Waiting for it sleeps, to leave the cores free for decoding."""
        flags = self._api.cudaEventDisableTiming | self._api.cudaEventBlockingSync
        (event,) = self._call("cudaEventCreateWithFlags", flags)
        self.releases.callback(self._call, "cudaEventDestroy", event)
        return int(event)

    def upload(self, source: NDArray[Any], address: int, stream: int) -> None:
        """Begin to copy an array to the GPU. It must be contiguous and stay unchanged meanwhile."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, source.ctypes.data, source.nbytes, kind, stream)

    def download(self, address: int, target: NDArray[Any], stream: int) -> None:
        """Begin to copy GPU memory into an array, which must be contiguous."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, address, target.nbytes, kind, stream)

    def record(self, event: int, stream: int) -> None:
        """Record the event: it happens when all work submitted to the stream so far is done."""
        self._call("cudaEventRecord", event, stream)

    def order(self, stream: int, event: int) -> None:
        """Make all later work of the stream wait for the event."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def wait(self, event: int) -> None:
        """Wait until the event has happened."""
        self._call("cudaEventSynchronize", event)

    def finish(self, stream: int) -> None:
        """Wait until the stream is empty."""
        self._call("cudaStreamSynchronize", stream)

    def capture(self, stream: int, submit: Callable[[], bool]) -> int | None:
        """Record the work that ``submit`` gives the stream as a graph, without running it.

        Returns:
            The graph, to be launched; None if the work cannot be recorded (for example, because
            a library must synchronise with the CPU in between). Nothing is run in that case.
        """
        # Thread-local: allocations in other threads do not disturb the recording.
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        if self._refused(self._api.cudaStreamBeginCapture(stream, mode)):
            return None
        submitted = submit()
        error, graph = self._api.cudaStreamEndCapture(stream)
        if self._refused((error,)):
            return None
        with ExitStack() as recorded:
            recorded.callback(self._call, "cudaGraphDestroy", graph)
            return self._executable(graph) if submitted else None

    def launch(self, graph: int, stream: int) -> None:
        """Submit a recorded graph to the stream."""
        self._call("cudaGraphLaunch", graph, stream)

    def close(self) -> None:
        """Wait for work in flight and release everything, even if a step fails."""
        for stream in self._streams:
            self.releases.callback(self.finish, stream)
        try:
            self.select()
        finally:
            self.releases.close()

    def _executable(self, graph: Any) -> int | None:
        error, executable = self._api.cudaGraphInstantiate(graph, 0)
        if self._refused((error,)):
            return None
        self.releases.callback(self._call, "cudaGraphExecDestroy", executable)
        return int(executable)

    def _refused(self, answer: tuple[Any, ...]) -> bool:
        refused = bool(answer[0] != self._api.cudaError_t.cudaSuccess)
        if refused:
            self._api.cudaGetLastError()  # else the next call would report it again
        return refused

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        error, *values = getattr(self._api, name)(*arguments)
        if error != self._api.cudaError_t.cudaSuccess:
            raise run_failed(
                f"{name} failed on {self.device}: {error.name}{ADVICE.get(error.name, '')}"
            )
        return tuple(values)
