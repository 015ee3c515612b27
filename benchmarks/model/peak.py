"""The arithmetic limit of this machine: the fastest matrix product found, in each precision.

    (M, K) x (K, N):  2 M N K operations

No program here can be expected to multiply faster, so it is what a network's rate is a share of.
Shapes are those of large convolutions written as matrix products, and products of about a thousand
rows and columns, which were the fastest here. On two cores with AMX, GOP/s:

    (M, K, N)              fp32 torch, ONNX Runtime     bf16 torch, OpenVINO     int8 ONNX Runtime
    (2304, 2304, 512)             186           293           1534       839                  2054
    (4096, 1024, 1024)            293           293           2080       876                  2425
    (1024, 1024, 4096)            313           303           1889       683                  2639
    (36864, 128, 128)             136           249            799       163                   447

Left out since never the fastest: OpenVINO (it converts its input first), torch._int_mm (1871),
QLinearMatMul (1079); and numpy, whose threads cannot be set once it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rsna_lumbar.benchmarks.harness.timing import seconds
from rsna_lumbar.benchmarks.model.arithmetic import OPERATIONS
from rsna_lumbar.runtime.backends.onnxruntime import keep_integers_exact

import torch  # isort: skip  # it follows what sets its switches

Shape = tuple[int, int, int]  # M, K, N
Call = Callable[[], object]
SHAPES: tuple[Shape, ...] = ((2304, 2304, 512), (4096, 1024, 1024), (1024, 1024, 4096))
TRIES = 8  # of each candidate, before the fastest is chosen
OPSET = 18


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product that can be called."""

    precision: str
    library: str
    shape: Shape
    call: Call

    @property
    def operations(self) -> int:
        """In one call."""
        rows, depth, columns = self.shape
        return OPERATIONS * rows * depth * columns

    def gops(self, call_s: float) -> float:
        """10^9 operations a second, for the time of one call."""
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
    """Try every shape with every library of a precision; keep the fastest of each library.

    Of each, since libraries share work between threads in different ways: which of them is the
    fastest depends on what else the machine does at that moment.

    Args:
        precision: one of ``MAKERS``.
        threads: of every library; torch's are set by the caller.
        shapes: to try.
        tries: calls of each, after one that does not count.
    """
    return tuple(
        max((_measured(one, tries) for one in products), key=lambda one: one.gops)
        for products in _products(precision, threads, shapes)
    )


def _measured(product: Product, tries: int) -> Peak:
    product.call()
    return Peak(product, product.gops(min(seconds(product.call) for _ in range(tries))))


def _products(precision: str, threads: int, shapes: tuple[Shape, ...]) -> Iterator[list[Product]]:
    """Of each library, those of all shapes."""
    for library, make in MAKERS[precision].items():
        yield [Product(precision, library, shape, make(shape, threads)) for shape in shapes]


def _torch_product(kind: torch.dtype, shape: Shape, _: int) -> Call:
    rows, depth, columns = shape
    left, right = torch.randn(rows, depth).to(kind), torch.randn(depth, columns).to(kind)
    result = torch.empty(rows, columns, dtype=kind)

    def call() -> None:
        with torch.inference_mode():
            torch.mm(left, right, out=result)

    return call


def _onnx_float(shape: Shape, threads: int) -> Call:
    rows, depth, columns = shape
    generator = np.random.default_rng(0)
    left = generator.normal(size=(rows, depth)).astype(np.float32)
    right = generator.normal(size=(depth, columns)).astype(np.float32)
    return _onnx_product("MatMul", left, right, TensorProto.FLOAT, threads)


def _onnx_int8(shape: Shape, threads: int) -> Call:
    """U8S8, as the graphs of ONNX Runtime are quantised."""
    rows, depth, columns = shape
    generator = np.random.default_rng(0)
    left = generator.integers(0, 256, (rows, depth)).astype(np.uint8)
    right = generator.integers(-127, 128, (depth, columns)).astype(np.int8)
    return _onnx_product("MatMulInteger", left, right, TensorProto.INT32, threads)


def _onnx_product(
    operator: str,
    left: NDArray[np.float32 | np.uint8],
    right: NDArray[np.float32 | np.int8],
    result_type: int,
    threads: int,
) -> Call:
    """The right side is constant, as the weights of a network are, so that it is packed once."""
    import onnxruntime as ort

    left_type = helper.np_dtype_to_tensor_dtype(left.dtype)
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", left_type, left.shape)],
        [helper.make_tensor_value_info("product", result_type, (len(left), right.shape[1]))],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=onnx.IR_VERSION_2023_5_5
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if result_type == TensorProto.INT32:
        keep_integers_exact(options)
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"left": left})


MAKERS: Mapping[str, Mapping[str, Callable[[Shape, int], Call]]] = {
    "fp32": {"torch": partial(_torch_product, torch.float32), "ONNX Runtime": _onnx_float},
    "bf16": {"torch": partial(_torch_product, torch.bfloat16)},
    "int8": {"ONNX Runtime": _onnx_int8},
}
