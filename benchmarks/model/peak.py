"""The arithmetic limit of this machine: the fastest matrix product found, in each precision.

    (M, K) x (K, N):  2 M N K operations

No program can be expected to multiply faster, so a network's rate is given as a share of it. Shapes
are those of large convolutions written as matrix products, and products of about a thousand rows
and columns, which were the fastest. On two cores with AMX, GOP/s:

    (M, K, N)              fp32 torch, ONNX Runtime     bf16 torch, OpenVINO     int8 ONNX Runtime
    (2304, 2304, 512)             186           293           1534       839                  2054
    (4096, 1024, 1024)            293           293           2080       876                  2425
    (1024, 1024, 4096)            313           303           1889       683                  2639
    (36864, 128, 128)             136           249            799       163                   447

Not used because never the fastest: OpenVINO (it converts its input first), torch._int_mm (1871),
QLinearMatMul (1079); and numpy, whose threads cannot be set after its import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rsna_lumbar.benchmarks.harness.timing import seconds
from rsna_lumbar.benchmarks.model.arithmetic import OPERATIONS
from rsna_lumbar.runtime.backends.onnxruntime import keep_integers_exact

import torch  # isort: skip  # after the export package, which sets its switches

Shape = tuple[int, int, int]  # M, K, N
Call = Callable[[], object]
SHAPES: tuple[Shape, ...] = ((2304, 2304, 512), (4096, 1024, 1024), (1024, 1024, 4096))
TRIES = 8  # of each candidate, before the fastest is chosen
OPSET = 18
CPU_ONLY = ["CPUExecutionProvider"]


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product that can be called."""

    precision: str
    library: str
    shape: Shape
    call: Call

    @property
    def operations(self) -> int:
        rows, depth, columns = self.shape
        return OPERATIONS * rows * depth * columns

    def gops(self, call_s: float) -> float:
        """10^9 operations per second, for the time of one call."""
        return self.operations / call_s / 1e9

    def __str__(self) -> str:
        rows, depth, columns = self.shape
        return f"{self.library}, ({rows}, {depth}) x ({depth}, {columns})"


@dataclass(frozen=True, slots=True)
class Peak:
    """The fastest product of a precision, and its highest rate so far."""

    product: Product
    gops: float

    def __str__(self) -> str:
        return f"{self.gops:.0f} GOP/s ({self.product})"


def find_peaks(
    precision: str, *, threads: int, shapes: tuple[Shape, ...] = SHAPES, tries: int = TRIES
) -> tuple[Peak, ...]:
    """Try every shape with every library of a precision; return the fastest of each library.

    Libraries share work between threads in different ways: which of them is the fastest depends on
    what else the machine does at that moment.

    Args:
        precision: one of ``MAKERS``.
        threads: of every library; torch's are set by the caller.
        shapes: to try.
        tries: calls of each, after one that does not count.
    """
    found = []
    for library, make in MAKERS[precision].items():
        peaks = []
        for shape in shapes:
            product = Product(precision, library, shape, make(shape, threads))
            product.call()
            best_s = min(seconds(product.call) for _ in range(tries))
            peaks.append(Peak(product, product.gops(best_s)))
        found.append(max(peaks, key=lambda peak: peak.gops))
    return tuple(found)


def _torch_product(kind: torch.dtype, shape: Shape, _: int) -> Call:
    rows, depth, columns = shape
    left, right = torch.randn(rows, depth).to(kind), torch.randn(depth, columns).to(kind)
    result = torch.empty(rows, columns, dtype=kind)

    def call() -> None:
        with torch.inference_mode():
            torch.mm(left, right, out=result)

    return call


def _onnx_product(operator: str, result_type: int, shape: Shape, threads: int) -> Call:
    """int8 is U8S8, as in quantised graphs of ONNX Runtime.

    The right side is constant, like the weights of a network, so that it is packed once.
    """
    import onnxruntime as ort

    rows, depth, columns = shape
    generator = np.random.default_rng(0)
    left: NDArray[Any]
    right: NDArray[Any]
    if result_type == TensorProto.INT32:
        left = generator.integers(0, 256, (rows, depth)).astype(np.uint8)
        right = generator.integers(-127, 128, (depth, columns)).astype(np.int8)
    else:
        left = generator.normal(size=(rows, depth)).astype(np.float32)
        right = generator.normal(size=(depth, columns)).astype(np.float32)
    left_type = helper.np_dtype_to_tensor_dtype(left.dtype)
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", left_type, left.shape)],
        [helper.make_tensor_value_info("product", result_type, (rows, columns))],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=onnx.IR_VERSION_2023_5_5
    )
    options = cpu_options(threads)
    if result_type == TensorProto.INT32:
        keep_integers_exact(options)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=CPU_ONLY)
    return lambda: session.run(None, {"left": left})


def cpu_options(threads: int) -> Any:
    """Options of ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return options


MAKERS: Mapping[str, Mapping[str, Callable[[Shape, int], Call]]] = {
    "fp32": {
        "torch": partial(_torch_product, torch.float32),
        "ONNX Runtime": partial(_onnx_product, "MatMul", TensorProto.FLOAT),
    },
    "bf16": {"torch": partial(_torch_product, torch.bfloat16)},
    "int8": {"ONNX Runtime": partial(_onnx_product, "MatMulInteger", TensorProto.INT32)},
}
