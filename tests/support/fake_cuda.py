"""A CUDA runtime without a GPU: device memory is host memory, streams do their work late.

A stream runs nothing until something waits for it, and then no more than what was waited for; or,
for streams named as eager, at once. So a missing event or a buffer that is filled too early gives
a wrong answer in one order or the other, as it would on a GPU now and then.

Copies are checked against what is allocated; calls are counted; one call can be made to fail.
"""

from __future__ import annotations

import ctypes
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

POISON = 0xA5  # what memory holds before somebody writes to it
# What these report is the trouble of something before them: they have done their own work.
LATE = {
    "cudaStreamSynchronize",
    "cudaStreamEndCapture",
    "cudaFree",
    "cudaFreeHost",
    "cudaStreamDestroy",
    "cudaEventDestroy",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
}
RETURNING = {  # these answer with a value beside the error, None where there is one
    "cudaMalloc",
    "cudaMallocHost",
    "cudaStreamCreateWithFlags",
    "cudaEventCreateWithFlags",
    "cudaStreamEndCapture",
    "cudaGraphInstantiate",
}


class cudaError_t(IntEnum):  # CUDA's own name
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorStreamCaptureUnsupported = 900


OK = cudaError_t.cudaSuccess
KINDS = ((1, "host", "device"), (2, "device", "host"))  # cudaMemcpyKind, from, to


@dataclass
class Event:
    recorded: int = 0  # times that a record was submitted
    done: int = 0


@dataclass
class Operation:
    run: Callable[[], None] = lambda: None
    records: tuple[Event, int] | None = None
    waits: tuple[Event, int] | None = None


@dataclass
class Stream:
    queue: deque[Operation] = field(default_factory=deque)
    recording: list[Operation] | None = None
    broken: bool = False  # the recording cannot be used


class FakeCuda:
    """What cuda.bindings.runtime is to the code under test."""

    cudaError_t = cudaError_t
    cudaStreamNonBlocking = 1
    cudaEventBlockingSync = 1
    cudaEventDisableTiming = 2
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, *, eager: tuple[int, ...] = (), capture: bool = True) -> None:
        """eager: numbers of the streams, as they are made, that do their work at once."""
        self.eager = eager
        self.capture = capture
        self.fail: tuple[str, int] | None = None  # name and count of the call that fails
        self.calls: Counter[str] = Counter()
        self.devices: list[int] = []
        self.live: dict[int, tuple[str, Any]] = {}  # handle or address -> kind, object
        self.streams: list[Stream] = []
        self._handles = iter(range(1, 10**9))

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        if not name.startswith("cuda"):
            raise AttributeError(name)
        return lambda *arguments: self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        self.calls[name] += 1
        fails = self.fail == (name, self.calls[name])
        values: tuple[Any, ...] = (OK, None) if name in RETURNING else (OK,)
        if fails and name == "cudaStreamEndCapture":
            self._get("stream", arguments[0]).broken = True  # no graph comes of it
        if not fails or name in LATE:
            values = getattr(self, f"_{name}")(*arguments)
        if fails:
            return (cudaError_t.cudaErrorMemoryAllocation, *(None for _ in values[1:]))
        return values

    # Memory

    def array(self, address: int, shape: tuple[int, ...], dtype: Any, kind: str) -> np.ndarray:
        """View of allocated memory of that kind; nothing outside it can be had."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        for start, (found, memory) in self.live.items():
            if found == kind and start <= address and address + size <= start + len(memory):
                part = memory[address - start : address - start + size]
                return part.view(dtype).reshape(shape)
        raise AssertionError(f"{size} bytes at {address:#x} are no {kind} memory")

    def _allocate(self, kind: str, size: int) -> tuple[Any, ...]:
        memory = np.full(size, POISON, np.uint8)
        self.live[memory.ctypes.data] = (kind, memory)
        return OK, memory.ctypes.data

    def _cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._allocate("device", size)

    def _cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        return self._allocate("host", size)

    def _release(self, kind: str, handle: int) -> tuple[Any, ...]:
        assert self.live.pop(int(handle))[0] == kind
        return (OK,)

    def _cudaFree(self, address: int) -> tuple[Any, ...]:
        return self._release("device", address)

    def _cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        return self._release("host", address)

    def _cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: int, stream: int
    ) -> tuple[Any, ...]:
        ((_, source_kind, target_kind),) = [one for one in KINDS if one[0] == kind]

        def copy() -> None:
            read = self.array(source, (size,), np.uint8, source_kind)
            self.array(target, (size,), np.uint8, target_kind)[...] = read

        copy_now = self.array(source, (size,), np.uint8, source_kind)  # is checked when asked too
        assert copy_now.nbytes == size
        self.submit(stream, Operation(copy))
        return (OK,)

    # Devices, streams, events

    def _cudaSetDevice(self, index: int) -> tuple[Any, ...]:
        self.devices.append(index)
        return (OK,)

    def _cudaGetLastError(self) -> tuple[Any, ...]:
        return (OK,)

    def _new(self, kind: str, value: Any) -> tuple[Any, ...]:
        handle = next(self._handles)
        self.live[handle] = (kind, value)
        return OK, ctypes.c_void_p(handle).value

    def _cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaStreamNonBlocking
        self.streams.append(Stream())
        return self._new("stream", self.streams[-1])

    def _cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        assert not self.live[stream][1].queue, "a stream goes while it has work"
        return self._release("stream", stream)

    def _cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaEventBlockingSync | self.cudaEventDisableTiming
        return self._new("event", Event())

    def _cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        return self._release("event", event)

    def _cudaEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:
        one = self._get("event", event)
        one.recorded += 1
        self.submit(stream, Operation(records=(one, one.recorded)))
        return (OK,)

    def _cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Any, ...]:
        one = self._get("event", event)
        self.submit(stream, Operation(waits=(one, one.recorded)))
        return (OK,)

    def _cudaEventSynchronize(self, event: int) -> tuple[Any, ...]:
        one = self._get("event", event)
        assert one.recorded, "waits for an event that nobody records"
        self._happen(one, one.recorded)
        return (OK,)

    def _cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        self._drain(self._get("stream", stream))
        return (OK,)

    # Graphs

    def _cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Any, ...]:
        one = self._get("stream", stream)
        assert one.recording is None
        one.recording, one.broken = [], not self.capture
        return (OK,)

    def _cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        one = self._get("stream", stream)
        recorded, one.recording = one.recording, None
        assert recorded is not None
        if one.broken:
            return cudaError_t.cudaErrorStreamCaptureUnsupported, None
        return self._new("graph", recorded)

    def _cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        return self._new("executable", list(self._get("graph", graph)))

    def _cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        return self._release("graph", graph)

    def _cudaGraphExecDestroy(self, executable: int) -> tuple[Any, ...]:
        return self._release("executable", executable)

    def _cudaGraphLaunch(self, executable: int, stream: int) -> tuple[Any, ...]:
        for operation in self._get("executable", executable):
            self.submit(stream, operation)
        return (OK,)

    # The work itself

    def recording(self, stream: int) -> bool:
        return self._get("stream", stream).recording is not None

    def submit(self, stream: int, operation: Operation) -> None:
        """Give a stream work, as a kernel launch does."""
        one = self._get("stream", stream)
        if one.recording is not None:
            one.recording.append(operation)
            return
        one.queue.append(operation)
        if self.streams.index(one) in self.eager:
            self._drain(one)

    def _get(self, kind: str, handle: int) -> Any:
        found, value = self.live[int(handle)]
        assert found == kind
        return value

    def _drain(self, stream: Stream) -> None:
        while stream.queue:
            self._step(stream)

    def _step(self, stream: Stream) -> None:
        operation = stream.queue.popleft()
        if operation.waits:
            self._happen(*operation.waits)
        operation.run()
        if operation.records:
            event, number = operation.records
            event.done = max(event.done, number)

    def _happen(self, event: Event, number: int) -> None:
        while event.done < number:
            holding = [
                s for s in self.streams if any(o.records == (event, number) for o in s.queue)
            ]
            assert holding, "waits for a record that was never submitted"
            self._step(holding[0])
