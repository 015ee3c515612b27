"""The contenders: ways from the square slices of a series to its class peaks.

Each is opened once, which is not timed, and then called with slices (n, S, S) uint8. It returns the
peak of each class over the series, (C,) float32 in canonical order. Everything from uint8 slices on
is timed: conversion, forward pass, reduction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from rsna_lumbar.benchmarks.model.engines import LIBRARY_OF, Pair, session_peaks
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
from rsna_lumbar.runtime.backends import SessionSettings
from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.machine import CPU

Peer = Callable[[Work], ScoreSeries]


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to run the network, in one precision."""

    key: str  # for --contenders
    name: str
    precision: str
    open: Open
    peer: str = ""  # of a score graph: key of ultralytics' own export on the same runtime
    whole: bool = True  # its network has the box branch

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


@contextmanager
def score_graph(pair: Pair, work: Work) -> Iterator[ScoreSeries]:
    """The score graph on the CPU, in a format and precision, as rsna-run opens it."""
    open_session = work.graphs.built(pair)
    with open_session(SessionSettings(CPU, work.threads, work.batch_size)) as session:
        yield by_batch(work, partial(session_peaks, session))


@contextmanager
def _by_batch(peer: Peer, work: Work) -> Iterator[ScoreSeries]:
    """A peer over a series; it has nothing to close."""
    yield by_batch(work, peer(work))


BASELINE = Contender("pytorch", "PyTorch forward", "fp32", partial(_by_batch, pytorch_forward))
OPENVINO, OPENVINO_BF16 = "ultralytics-openvino", "ultralytics-openvino-bf16"
PEERS: tuple[tuple[str, str, str, Peer], ...] = (
    ("pytorch-fused", "PyTorch, batch norms fused", "fp32", pytorch_fused),
    ("pytorch-channels-last", "PyTorch, fused, channels last", "fp32", pytorch_channels_last),
    ("pytorch-compile", "torch.compile of that", "fp32", pytorch_compiled),
    ("pytorch-bf16", "PyTorch, fused, channels last", "bf16", pytorch_bf16),
    ("predict", "ultralytics predict", "fp32", ultralytics_predict),
    ("ultralytics-onnx", "ultralytics ONNX, ONNX Runtime", "fp32", ultralytics_onnx),
    (OPENVINO, "ultralytics OpenVINO", "fp32", partial(ultralytics_openvino, "fp32")),
    (OPENVINO_BF16, "ultralytics OpenVINO", "bf16", partial(ultralytics_openvino, "bf16")),
)
SCORE_GRAPHS = {  # and their peers
    ("onnx", "fp32"): "ultralytics-onnx",
    ("onnx", "int8"): "ultralytics-onnx",
    ("openvino", "fp32"): OPENVINO,
    ("openvino", "bf16"): OPENVINO_BF16,
    ("openvino", "int8"): OPENVINO,
}
CONTENDERS = (
    BASELINE,
    *(
        Contender(key, name, precision, partial(_by_batch, peer))
        for key, name, precision, peer in PEERS
    ),
    *(
        Contender(
            "-".join(pair),
            f"score graph, {LIBRARY_OF[pair[0]]}",
            pair[1],
            partial(score_graph, pair),
            peer,
            whole=False,
        )
        for pair, peer in SCORE_GRAPHS.items()
    ),
)


def chosen_contenders(text: str | None) -> tuple[Contender, ...]:
    """Contenders of comma-separated keys, in the order of the table, with BASELINE; None: all.

    Raises:
        UsageError: no contender has a key.
    """
    if text is None:
        return CONTENDERS
    keys = {part.strip() for part in text.split(",")}
    if unknown := sorted(keys.difference(one.key for one in CONTENDERS)):
        known = ", ".join(one.key for one in CONTENDERS)
        raise UsageError(f"no contender {', '.join(unknown)}; there is {known}")
    return tuple(one for one in CONTENDERS if one.key in keys or one is BASELINE)
