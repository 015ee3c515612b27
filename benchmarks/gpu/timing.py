"""The engines of a library at real size against PyTorch on the same device, interleaved.

All start with uint8 slices in the host's memory and end with answers there. PyTorch runs the
unmodified network in float32 without TF32, and, as its best setting, the fused network in half
precision with channels last. cuDNN may try its algorithms for each shape before the clock runs.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.gpu.flight import measure_throughput
from rsna_lumbar.benchmarks.gpu.jobs import TIMING_CACHE, Settings
from rsna_lumbar.benchmarks.gpu.plan import TIMING
from rsna_lumbar.benchmarks.gpu.rows import OK, Figure, Notes, Row
from rsna_lumbar.benchmarks.gpu.weights import checkpoint_in, graph_in
from rsna_lumbar.benchmarks.model.engines import Pair, ScoreGraphs, plain_detector
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint
from rsna_lumbar.export.checkpoints.reference import BOX_ROWS, WHITE
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.formats import BuildOptions
from rsna_lumbar.export.graph.int8 import LEAST_SLICES
from rsna_lumbar.runtime.backends import Session
from rsna_lumbar.runtime.core.errors import LumbarError
from rsna_lumbar.runtime.core.postprocess import Calibration, probabilities
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.machine import CPU

DISTINCT_SLICES = 8  # repeated to fill a batch
SLICES_A_TIMING = 64  # small batches are run several times in a row
MILLISECONDS = 1e3

Peaks = NDArray[np.float32]
Score = Callable[[NDArray[np.uint8]], Peaks]  # (N, S, S) -> (C,)
FP32, FP16 = "PyTorch fp32", "PyTorch fp16"


@dataclass(frozen=True, slots=True)
class Timed:
    """Milliseconds a slice in each round, (rounds,), and the answers."""

    ms: dict[str, NDArray[np.float64]]
    answers: dict[str, Peaks]


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """An engine to time."""

    session: Session
    build_s: float

    def score(self, slices: NDArray[np.uint8]) -> Peaks:
        peaks: Peaks = self.session.run(slices, np.ones((1, len(slices)), bool)).peak[0]
        return peaks


def time_engines(
    notes: Notes,
    settings: Settings,
    device: str,
    scale: str,
    size: str,
    name: str,
    precisions: str,
    *batches: str,
) -> None:
    """Rows of one format: for each of the precisions (with commas between) and batch sizes."""
    size_px = int(size)
    notes.begin("making random weights")
    checkpoint = checkpoint_in(settings.work, scale)
    graphs = _graphs(checkpoint, settings, scale, size_px)
    label = f"YOLOv8{scale} {size_px} px, {name}"
    with ExitStack() as stack:
        engines: dict[str, Opened] = {}
        for precision in precisions.split(","):
            notes.begin(f"making the engine in {precision}")
            try:
                engines[precision] = _opened(graphs, (name, precision), device, stack)
            except LumbarError as error:
                notes.add(Row(TIMING, f"{label} {precision}", f"not done: {error}"))
        if not engines:
            return
        baselines = _pytorch(checkpoint, device, notes)
        some = textured_slices(DISTINCT_SLICES, size_px, seed=1)
        for batch in map(int, batches):
            notes.begin(f"timing batches of {batch}")
            slices = np.resize(some, (batch, size_px, size_px))
            for precision, figures in _figures(baselines, engines, slices, settings.rounds):
                notes.add(Row(TIMING, f"{label} {precision}", OK, figures))


def _figures(
    baselines: Mapping[str, Score],
    engines: Mapping[str, Opened],
    slices: NDArray[np.uint8],
    rounds: int,
) -> Iterator[tuple[str, dict[str, Figure]]]:
    """Of each engine, all timed in the same rounds on the same batch."""
    ways = {**baselines, **{key: one.score for key, one in engines.items()}}
    timed = _time(ways, slices, rounds)
    for precision, engine in engines.items():
        flight = measure_throughput(engine.session, slices, rounds=rounds)
        yield (
            precision,
            {
                "device": engine.session.device,
                "batch": len(slices),
                **_compared(timed, precision),
                "ahead": flight.ahead,
                "in flight": flight.in_flight,
                "build s": engine.build_s,
            },
        )


def _graphs(checkpoint: Checkpoint, settings: Settings, scale: str, size_px: int) -> ScoreGraphs:
    return ScoreGraphs(
        graph_in(settings.work, scale, checkpoint, size_px),
        plain_detector(checkpoint, size_px),
        textured_slices(LEAST_SLICES, size_px, seed=2),
        BuildOptions(timing_cache=settings.work / TIMING_CACHE),
    )


def _opened(graphs: ScoreGraphs, pair: Pair, device: str, stack: ExitStack) -> Opened:
    start = time.perf_counter()
    built = graphs.built(pair)
    seconds = time.perf_counter() - start
    session = stack.enter_context(built.open(device=device, threads=usable_cores()))
    return Opened(session, seconds)


def _pytorch(checkpoint: Checkpoint, device: str, notes: Notes) -> dict[str, Score]:
    """The baselines; without PyTorch's CUDA, none on a GPU."""
    if device != CPU and not torch.cuda.is_available():
        notes.add(Row(TIMING, "PyTorch", f"not run: PyTorch {torch.__version__} has no CUDA here"))
        return {}
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    plain: Any = copy.deepcopy(checkpoint.network)
    best: Any = copy.deepcopy(checkpoint.network).fuse(verbose=False).half()
    order = list(checkpoint.order)
    last = torch.channels_last
    return {
        FP32: _scorer(plain.to(device), checkpoint.channels, order, torch.float32, None),
        FP16: _scorer(
            best.to(device, memory_format=last), checkpoint.channels, order, torch.float16, last
        ),
    }


def _scorer(
    network: Any,
    channels: int,
    order: list[int],
    dtype: torch.dtype,
    memory_format: torch.memory_format | None,
) -> Score:
    device = next(network.parameters()).device

    def score(slices: NDArray[np.uint8]) -> Peaks:
        with torch.inference_mode():
            grey = torch.from_numpy(slices).to(device)[:, None].to(dtype) / WHITE
            images = grey.expand(-1, channels, -1, -1)
            if memory_format is not None:
                images = images.contiguous(memory_format=memory_format)
            scores, _ = network(images)  # (N, 4 + C, A)
            peaks = scores[:, BOX_ROWS:].amax(dim=(0, 2)).float().cpu().numpy()
        return np.asarray(peaks[order], np.float32)

    return score


def _time(ways: Mapping[str, Score], slices: NDArray[np.uint8], rounds: int) -> Timed:
    calls = max(1, SLICES_A_TIMING // len(slices))
    answers = {name: score(slices) for name, score in ways.items()}  # and the warm-up
    for score in ways.values():  # a CUDA graph is recorded in the second run
        score(slices)
    ms = {name: np.empty(rounds) for name in ways}
    names = list(ways)
    for index in range(rounds):
        turn = index % len(names)  # another one begins each round
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            for _ in range(calls):
                ways[name](slices)
            ms[name][index] = MILLISECONDS * (time.perf_counter() - start) / calls / len(slices)
    return Timed(ms, answers)


def _compared(timed: Timed, engine: str) -> dict[str, Figure]:
    figures: dict[str, Figure] = {"ms/slice": float(np.median(timed.ms[engine]))}
    for name in (FP32, FP16):
        figures[name] = float(np.median(timed.ms[name])) if name in timed.ms else None
    if FP32 in timed.ms:
        ratios = timed.ms[FP32] / timed.ms[engine]
        figures["to fp32"] = f"{np.median(ratios):.2f}x"
        figures["range"] = f"{ratios.min():.2f}-{ratios.max():.2f}"
        figures["to fp16"] = f"{np.median(timed.ms[FP16] / timed.ms[engine]):.2f}x"
        ours, wanted = (probabilities(timed.answers[k], Calibration()) for k in (engine, FP32))
        figures["max diff"] = float(np.abs(ours - wanted).max())
    return figures
