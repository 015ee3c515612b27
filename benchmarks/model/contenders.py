"""What is compared: ways from the square slices of a series to its class peaks.

Each contender is opened once, outside the clock, and then called with slices (n, S, S) uint8. It
returns the peak of each class over the series, (C,) float32 in canonical order. Everything that it
needs from uint8 slices on is inside the clock: conversion, forward pass, reduction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from rsna_lumbar.benchmarks.model.engines import Pair, title
from rsna_lumbar.benchmarks.model.peers import (
    pytorch_bf16,
    pytorch_channels_last,
    pytorch_compiled,
    pytorch_forward,
    pytorch_fused,
    ultralytics_onnx,
    ultralytics_openvino,
    ultralytics_predict,
)
from rsna_lumbar.benchmarks.model.work import Open, ScoreSeries, Work, by_batch
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.machine import CPU


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to compare, in the precision that its network computes in."""

    key: str  # for --contenders
    name: str
    precision: str
    open: Open
    peer: str = ""  # key of ultralytics' own export on the same runtime, of our own graphs
    # Whether the box branch is in its network.
    whole: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


@contextmanager
def score_graph(pair: Pair, work: Work) -> Iterator[ScoreSeries]:
    """Our score graph on the CPU, in a format and precision, as rsna-run opens it."""
    with work.graphs.built(pair).open(
        device=CPU, threads=work.threads, batch_size=work.batch_size
    ) as session:
        yield by_batch(
            work, lambda slices: session.run(slices, np.ones((1, len(slices)), bool)).peak[0]
        )


def _ours(pair: Pair, peer: str) -> Contender:
    return Contender(
        "-".join(pair), title(pair), pair[1], partial(score_graph, pair), peer, whole=False
    )


BASELINE = Contender("pytorch", "PyTorch forward", "fp32", pytorch_forward)
CONTENDERS = (
    BASELINE,
    Contender("pytorch-fused", "PyTorch, batch norms fused", "fp32", pytorch_fused),
    Contender(
        "pytorch-channels-last", "PyTorch, fused, channels last", "fp32", pytorch_channels_last
    ),
    Contender("pytorch-compile", "torch.compile of that", "fp32", pytorch_compiled),
    Contender("pytorch-bf16", "PyTorch, fused, channels last", "bf16", pytorch_bf16),
    Contender("predict", "ultralytics predict", "fp32", ultralytics_predict),
    Contender("ultralytics-onnx", "ultralytics ONNX, ONNX Runtime", "fp32", ultralytics_onnx),
    Contender(
        "ultralytics-openvino",
        "ultralytics OpenVINO",
        "fp32",
        partial(ultralytics_openvino, "fp32"),
    ),
    Contender(
        "ultralytics-openvino-bf16",
        "ultralytics OpenVINO",
        "bf16",
        partial(ultralytics_openvino, "bf16"),
    ),
    _ours(("onnx", "fp32"), "ultralytics-onnx"),
    _ours(("onnx", "int8"), "ultralytics-onnx"),
    _ours(("openvino", "fp32"), "ultralytics-openvino"),
    _ours(("openvino", "bf16"), "ultralytics-openvino-bf16"),
    _ours(("openvino", "int8"), "ultralytics-openvino"),
)


def chosen_contenders(text: str | None) -> tuple[Contender, ...]:
    """Those of the keys with commas between, in the order of the table; BASELINE always.

    Raises:
        UsageError: there is none of a key.
    """
    if text is None:
        return CONTENDERS
    keys = {part.strip() for part in text.split(",")}
    if unknown := sorted(keys.difference(one.key for one in CONTENDERS)):
        known = ", ".join(one.key for one in CONTENDERS)
        raise UsageError(f"no contender {', '.join(unknown)}; there is {known}")
    return tuple(one for one in CONTENDERS if one.key in keys or one is BASELINE)
