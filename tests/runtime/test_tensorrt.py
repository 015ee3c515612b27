"""The TensorRT session against a simulated CUDA and engine; nothing here ran on a GPU.

What is checked: buffers, events, graphs, padding, errors and refusals, as ONNX Runtime would have
answered. What cannot be: that TensorRT computes what it should.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import OUTPUTS, VERSION, FakeTensorRT, fake_plan
from numpy.typing import NDArray
from rtx_apart import asked_apart, missing_names, settable_names
from toys import SIZE_PX, toy_model

from rsna_lumbar.runtime.backends import Outputs, Session, SessionSettings, constant_inputs
from rsna_lumbar.runtime.backends import tensorrt as backend
from rsna_lumbar.runtime.backends.tensorrt_slot import DTYPES, batch_sizes
from rsna_lumbar.runtime.bundle.records import Detector, Engine, Model, ModelFile
from rsna_lumbar.runtime.core.errors import BackendError, LumbarError, UsageError
from rsna_lumbar.runtime.core.labels import SPINAL
from rsna_lumbar.runtime.core.postprocess import Calibration
from rsna_lumbar.runtime.system.gpus import CudaDevice

LARGEST = 12
LIBRARIES = ("tensorrt", "tensorrt-rtx")
GRAPH = toy_model(SPINAL)
GPU = CudaDevice("NVIDIA L4", "8.9", 23 << 30)
DETECTOR = Detector(
    group=SPINAL,
    size_px=SIZE_PX,
    calibration=Calibration(temperature=1.5, bias=(0.1, 0.0, -0.2), floor=1e-3),
    prior=((0.6, 0.25, 0.15),) * len(SPINAL.locations),
    combination="mean",
    models=(),
)
ENGINE = Engine(VERSION, ("8.6", "8.9"), 1, LARGEST, LARGEST)

Batch = tuple[NDArray[np.uint8], NDArray[np.bool_]]


class Gpu:
    """A machine with a fake GPU and a fake TensorRT, which opens one engine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, library: str, cuda: FakeCuda) -> None:
        self.library = library
        self.cuda = cuda
        self.trt = FakeTensorRT(cuda, GRAPH, largest=LARGEST, size_px=SIZE_PX)
        monkeypatch.setitem(sys.modules, library.replace("-", "_"), self.trt)
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
        monkeypatch.setattr(backend, "cuda_devices", lambda: (GPU, GPU))

    def model(self, engine: Engine | None = ENGINE) -> Model:
        return Model(
            files=(ModelFile("spinal.plan", "0" * 64),),
            backend=self.library,
            target="sm86.sm89",
            precision="fp32",
            weights_sha256="1" * 64,
            engine=engine,
            parity=None,
        )

    def open(self, *, device: str = "cuda:1") -> Session:
        plan = (fake_plan(self.library),)
        return backend.open_session(plan, self.model(), DETECTOR, SessionSettings(device, 1))

    def answer(self, batch: Batch) -> Outputs:
        """What ONNX Runtime says, without padding."""
        feed = {"slices": batch[0], "member": batch[1], **constant_inputs(DETECTOR)}
        return Outputs(*self.trt.session.run(OUTPUTS, feed))


MakeGpu = Callable[..., Gpu]


@pytest.fixture(params=LIBRARIES)
def make_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MakeGpu:
    return lambda cuda=None: Gpu(monkeypatch, request.param, cuda or FakeCuda())


@pytest.fixture
def gpu(make_gpu: MakeGpu) -> Gpu:
    return make_gpu()


def make_batch(count: int, sets: int, seed: int) -> Batch:
    """Random slices, some of which belong to no set; the last set is empty where there are two."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(-1, max(1, sets - 1), count)
    owner[:1] = 0
    member = owner == np.arange(sets)[:, None]
    return rng.integers(0, 256, (count, SIZE_PX, SIZE_PX), np.uint8), member


def assert_same(found: Outputs, expected: Outputs) -> None:
    for name in OUTPUTS:
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, err_msg=name)


BATCHES = tuple(
    make_batch(count, sets, seed)
    for seed, (count, sets) in enumerate(
        ((LARGEST, 3), (5, 2), (LARGEST, 1), (1, 1), (5, 5), (7, 2), (LARGEST, LARGEST), (5, 1))
    )
)


@pytest.mark.parametrize("eager", [(), (0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_answers_are_those_of_onnx_runtime(
    make_gpu: MakeGpu, eager: tuple[int, ...], ahead: int
) -> None:
    gpu = make_gpu(FakeCuda(eager=eager))
    under_way = []
    with gpu.open() as session:
        for batch in BATCHES * 3:  # the third time every graph is a replay
            under_way.append((session.start(*batch), batch))
            if len(under_way) == ahead:
                wait, of = under_way.pop(0)
                assert_same(wait(), gpu.answer(of))
        for wait, of in reversed(under_way):
            assert_same(wait(), gpu.answer(of))
            assert_same(wait(), gpu.answer(of))  # asking again is allowed
    assert gpu.trt.runs == 3 * len(BATCHES)


def test_a_batch_without_slices_in_its_sets_is_the_prior(gpu: Gpu) -> None:
    slices = np.full((2, SIZE_PX, SIZE_PX), 255, np.uint8)
    with gpu.open() as session:
        outputs = session.run(slices, np.zeros((3, 2), np.bool_))
    np.testing.assert_array_equal(outputs.peak, 0)
    np.testing.assert_array_equal(outputs.slice, -1)
    np.testing.assert_array_equal(outputs.cell, -1)
    np.testing.assert_allclose(outputs.probability, [DETECTOR.prior] * 3)


def test_what_lies_beside_a_small_batch_changes_nothing(gpu: Gpu) -> None:
    bright = np.full((LARGEST, SIZE_PX, SIZE_PX), 255, np.uint8)
    everything = np.ones((LARGEST, LARGEST), np.bool_)
    small = make_batch(5, 2, seed=99)
    with gpu.open() as session:
        for _ in range(2):  # both slots
            session.run(bright, everything)
        assert_same(session.run(*small), gpu.answer(small))


def test_the_caller_may_reuse_its_arrays_once_answered(gpu: Gpu) -> None:
    slices, member = make_batch(6, 2, seed=7)
    with gpu.open() as session:
        first = session.run(slices, member)
        expected = gpu.answer((slices, member))
        slices[...] = 0
        session.run(slices, member)
        session.run(slices, member)
    assert_same(first, expected)


def test_32_bit_indices_become_64(gpu: Gpu) -> None:
    gpu.trt.index_dtype = "INT32"
    with gpu.open() as session:
        assert_same(session.run(*BATCHES[0]), gpu.answer(BATCHES[0]))


@pytest.mark.parametrize("library", ["tensorrt"])
@pytest.mark.parametrize("capture", [True, False])
def test_runs_are_captured_once_for_each_slot_and_size(
    monkeypatch: pytest.MonkeyPatch, library: str, capture: bool
) -> None:
    gpu = Gpu(monkeypatch, library, FakeCuda(capture=capture))
    with gpu.open() as session:
        for _ in range(8):  # four runs a slot: plain, captured, replayed twice
            assert_same(session.run(*BATCHES[1]), gpu.answer(BATCHES[1]))
        assert gpu.trt.living == 2
    assert gpu.cuda.calls["cudaStreamBeginCapture"] == 2
    assert gpu.cuda.calls["cudaGraphLaunch"] == (6 if capture else 0)


@pytest.mark.parametrize("library", ["tensorrt-rtx"])
def test_the_library_that_compiles_has_graphs_of_its_own(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    gpu = Gpu(monkeypatch, library, FakeCuda())
    with gpu.open() as session:
        for _ in range(6):
            session.run(*BATCHES[1])
    assert gpu.cuda.calls["cudaStreamBeginCapture"] == 0


def test_contexts_are_few_and_share_their_scratch_memory(gpu: Gpu) -> None:
    with gpu.open() as session:
        before = gpu.cuda.calls["cudaMalloc"]
        for count in range(1, LARGEST + 1):
            for _ in range(2):
                session.run(*make_batch(count, 1, count))
        assert gpu.trt.living == 2 * len(batch_sizes(ENGINE))
        assert gpu.cuda.calls["cudaMalloc"] == before


@pytest.mark.parametrize(
    ("least", "largest", "sizes"),
    [
        (1, 1, (1,)),
        (1, 6, (1, 2, 3, 4, 5, 6)),
        (1, 12, (1, 2, 4, 6, 8, 10, 12)),
        (1, 64, (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64)),
        (4, 16, (4, 6, 8, 10, 12, 14, 16)),
        (16, 16, (16,)),
    ],
)
def test_batch_sizes(least: int, largest: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(Engine(VERSION, (), least, largest, largest)) == sizes


@pytest.mark.parametrize(("count", "sets"), [(LARGEST + 1, 1), (1, LARGEST + 1)])
def test_a_batch_that_does_not_fit_is_refused(gpu: Gpu, count: int, sets: int) -> None:
    with gpu.open() as session:
        with pytest.raises(UsageError, match=f"--batch-size {LARGEST}"):
            session.start(*make_batch(count, sets, 0))
        assert_same(session.run(*BATCHES[1]), gpu.answer(BATCHES[1]))  # and the session goes on


def test_every_call_is_for_the_device_that_was_asked_for(gpu: Gpu) -> None:
    with gpu.open(device="cuda:1") as session:
        assert session.device == "cuda:1"
        assert session.ahead == 2
        session.run(*BATCHES[0])
    assert set(gpu.cuda.devices) == {1}
    assert len(gpu.cuda.devices) == 4  # open, start, wait, close: each may be another thread's


def test_closing_releases_everything(gpu: Gpu) -> None:
    session = gpu.open()
    wait = session.start(*BATCHES[0])
    session.start(*BATCHES[1])
    session.close()
    session.close()
    assert not gpu.cuda.live
    assert gpu.trt.gone == ["context", "context", "engine", "runtime"]
    for use in (wait, lambda: session.start(*BATCHES[0])):
        with pytest.raises(BackendError, match="closed"):
            use()


def scenario(gpu: Gpu) -> None:
    """Every kind of call: plain, captured and replayed runs, both slots, closing under way."""
    session = gpu.open()
    try:
        for _ in range(6):
            assert_same(session.run(*BATCHES[1]), gpu.answer(BATCHES[1]))
        session.start(*BATCHES[0])
    except BaseException:
        with suppress(BackendError):
            session.close()
        raise
    session.close()


# Where capturing fails, runs go on without; cudaGetLastError only clears what was reported.
FORGIVEN = ("cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate")
CALLS = (
    "cudaSetDevice",
    "cudaMalloc",
    "cudaMallocHost",
    "cudaStreamCreateWithFlags",
    "cudaEventCreateWithFlags",
    "cudaMemcpyAsync",
    "cudaEventRecord",
    "cudaStreamWaitEvent",
    "cudaEventSynchronize",
    "cudaStreamSynchronize",
    "cudaFree",
    "cudaFreeHost",
    "cudaStreamDestroy",
    "cudaEventDestroy",
)
CAPTURE_CALLS = (*FORGIVEN, "cudaGraphDestroy", "cudaGraphLaunch", "cudaGraphExecDestroy")


def test_the_list_of_calls_is_complete(gpu: Gpu) -> None:
    scenario(gpu)
    captures = CAPTURE_CALLS if gpu.library == "tensorrt" else ()
    assert set(gpu.cuda.calls) == {*CALLS, *captures}


@pytest.mark.parametrize("call", CALLS + CAPTURE_CALLS)
def test_a_failed_call_is_an_error_and_leaks_nothing(make_gpu: MakeGpu, call: str) -> None:
    whole = make_gpu()
    scenario(whole)
    for number in range(1, whole.cuda.calls[call] + 1):
        gpu = make_gpu()
        gpu.cuda.fail = (call, number)
        if call in FORGIVEN:
            scenario(gpu)
        else:
            with pytest.raises(BackendError, match=f"{call} failed on cuda:1: cudaErrorMemory"):
                scenario(gpu)
        assert not gpu.cuda.live, f"{call} number {number} leaks"
        assert gpu.trt.living == 0


def test_a_run_that_is_not_accepted_is_an_error(gpu: Gpu) -> None:
    with gpu.open() as session:
        for _ in range(session.ahead):  # in every slot
            session.run(*BATCHES[1])
        gpu.trt.accepts = False
        with pytest.raises(BackendError, match="did not accept"):
            session.run(*BATCHES[1])


USED = {  # of the real API, where the fakes stand in for it
    "IExecutionContext": (
        "set_device_memory",
        "set_input_shape",
        "set_tensor_address",
        "execute_async_v3",
    ),
    "ICudaEngine": (
        "device_memory_size_v2",
        "num_io_tensors",
        "get_tensor_name",
        "get_tensor_shape",
        "get_tensor_dtype",
        "get_tensor_profile_shape",
        "create_runtime_config",
        "create_execution_context",
    ),
    "IRuntimeConfig": (
        "set_execution_context_allocation_strategy",
        "create_runtime_cache",
        "set_runtime_cache",
    ),
    "Runtime": ("deserialize_cuda_engine",),
    "ExecutionContextAllocationStrategy": ("USER_MANAGED",),
    "DynamicShapesKernelSpecializationStrategy": ("EAGER",),
    "CudaGraphStrategy": ("WHOLE_GRAPH_CAPTURE",),
    "DataType": tuple(DTYPES),
}


def test_what_is_used_of_tensorrt_rtx_is_there() -> None:
    assert asked_apart(missing_names, json.dumps(USED).encode()) == []
    assert asked_apart(missing_names, b'{"Runtime": ["make_tea"]}') == ["Runtime.make_tea"]


def test_settings_of_tensorrt_rtx_can_be_set() -> None:
    names = ["cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"]
    assert asked_apart(settable_names, json.dumps(names).encode()) == names


def test_what_is_used_of_cuda_is_there() -> None:
    cuda = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    names = (*CALLS, *CAPTURE_CALLS, "cudaGetLastError")
    flags = ("cudaStreamNonBlocking", "cudaEventBlockingSync", "cudaEventDisableTiming")
    assert not [name for name in (*names, *flags) if not hasattr(cuda, name)]
    for flag in flags:
        assert getattr(cuda, flag) == getattr(FakeCuda, flag)
    for name in ("cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"):
        assert getattr(cuda.cudaMemcpyKind, name) == getattr(FakeCuda.cudaMemcpyKind, name)


# Refusals: before a runtime is made, or at least before the engine runs.


@pytest.mark.parametrize(
    ("engine", "plan", "kind", "reason"),
    [
        (None, None, BackendError, "does not describe one engine"),
        (replace(ENGINE, version="1.2.3.5"), None, BackendError, "manifest says .* 1.2.3.5"),
        (replace(ENGINE, version="1.2.3.5"), "1.2.3.5", UsageError, "installed is 1.2.3.4"),
        (replace(ENGINE, compute_capabilities=("9.0",)), None, UsageError, "NVIDIA L4. has 8.9"),
    ],
)
def test_an_engine_for_elsewhere_is_refused_unopened(
    gpu: Gpu, engine: Engine | None, plan: str | None, kind: type[LumbarError], reason: str
) -> None:
    content = (fake_plan(gpu.library, plan or VERSION),)
    with pytest.raises(kind, match=reason):
        backend.open_session(content, gpu.model(engine), DETECTOR, SessionSettings("cuda:0", 1))
    assert gpu.trt.opened == []
    assert not gpu.cuda.calls


@pytest.mark.parametrize(
    "harm", [lambda plan: plan[:-1], lambda plan: b"\0" + plan[1:], lambda _: b""]
)
def test_a_damaged_plan_is_refused_unopened(gpu: Gpu, harm: Callable[[bytes], bytes]) -> None:
    content = (harm(fake_plan(gpu.library)),)
    with pytest.raises(BackendError, match=r"spinal\.plan is no engine"):
        backend.open_session(content, gpu.model(), DETECTOR, SessionSettings("cuda:0", 1))
    assert gpu.trt.opened == []


def test_an_engine_of_the_other_library_is_refused_unopened(gpu: Gpu) -> None:
    other = next(name for name in LIBRARIES if name != gpu.library)
    with pytest.raises(BackendError, match=f"was built by {other} "):
        settings = SessionSettings("cuda:0", 1)
        backend.open_session((fake_plan(other),), gpu.model(), DETECTOR, settings)
    assert gpu.trt.opened == []


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cpu", "'cpu' is no GPU"),
        ("auto", "'auto' is no GPU"),
        ("cuda:2", "cuda:2 is not there: .* NVIDIA GPUs found"),
    ],
)
def test_a_device_that_is_not_there_is_refused_unopened(gpu: Gpu, device: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        gpu.open(device=device)
    assert gpu.trt.opened == []


def test_without_a_gpu_nothing_is_imported(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "cuda_devices", lambda: ())
    monkeypatch.setattr(backend, "load_library", lambda name: pytest.fail("was imported"))
    with pytest.raises(UsageError, match="0 NVIDIA GPUs found"):
        gpu.open(device="cuda:0")
    assert gpu.trt.opened == []


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("missing", ["library", "cuda"])
def test_what_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, library: str, missing: str
) -> None:
    gpu = Gpu(monkeypatch, library, FakeCuda())
    module = {"library": library.replace("-", "_"), "cuda": "cuda.bindings.runtime"}[missing]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'rsna-lumbar\[{library}\]'"):
        gpu.open()
    assert gpu.trt.opened == []


def test_the_reason_of_a_refusing_runtime_is_passed_on(gpu: Gpu) -> None:
    gpu.trt.refuses = "The engine plan file is not compatible\nwith this version."
    with pytest.raises(BackendError, match="not compatible with this version"):
        gpu.open()
    assert not gpu.cuda.live


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("profile", (1, 4, LARGEST), "takes batches of"),
        ("largest", LARGEST + 1, "tensors are"),
        ("index_dtype", "HALF", "answers in"),
    ],
)
def test_an_engine_of_something_else_is_refused(
    gpu: Gpu, attribute: str, value: object, reason: str
) -> None:
    setattr(gpu.trt, attribute, value)
    with pytest.raises(BackendError, match=reason):
        gpu.open()
    assert not gpu.cuda.live
    assert gpu.trt.living == 0
