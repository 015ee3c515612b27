"""Times the engines of a library at real size against PyTorch on the same device.

Timing starts with uint8 slices in host memory and ends with results there. PyTorch runs the
unmodified network in float32 without TF32, and, as its best setting, the fused network in half
precision with channels last. cuDNN may try its algorithms for each shape before the timing.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.gpu.flight import measure_throughput
from rsna_lumbar.benchmarks.gpu.jobs import TIMING_CACHE, Settings
from rsna_lumbar.benchmarks.gpu.plan import TIMING
from rsna_lumbar.benchmarks.gpu.rows import OK, Figure, Notes, Row
from rsna_lumbar.benchmarks.harness.bench_bundle import random_checkpoint
from rsna_lumbar.benchmarks.harness.timing import Samples, interleaved, ratios, warm_up
from rsna_lumbar.benchmarks.model.engines import ScoreGraphs, float32_graph, session_peaks
from rsna_lumbar.benchmarks.model.measure import largest_difference, repeatedly
from rsna_lumbar.benchmarks.model.peers import CHANNELS_LAST, fused, torch_peaks
from rsna_lumbar.benchmarks.model.work import Peaks, ScoreSeries
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from rsna_lumbar.export.checkpoints.synthetic import textured_slices
from rsna_lumbar.export.formats import BuildOptions
from rsna_lumbar.runtime.backends import Session, SessionSettings
from rsna_lumbar.runtime.core.errors import LumbarError
from rsna_lumbar.runtime.core.labels import SUBARTICULAR
from rsna_lumbar.runtime.system.atomic_files import write_atomically
from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.machine import CPU

DISTINCT_SLICES = 8  # repeated to fill a batch
SLICES_A_TIMING = 64  # small batches are repeated
FP32, FP16 = "PyTorch fp32", "PyTorch fp16"


Engine = tuple[Session, float]  # open, and the seconds of its build


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
    """Rows of one format: for each of the comma-separated precisions and each batch size."""
    size_px = int(size)
    notes.begin("making random weights")
    path = random_checkpoint(settings.work, SUBARTICULAR, scale)
    checkpoint = read_checkpoint(path, SUBARTICULAR)
    graph = path.with_suffix(f".{size_px}.onnx")
    if not graph.exists():  # the next job reads it
        write_atomically(graph, float32_graph(checkpoint, size_px))
    build = BuildOptions(timing_cache=settings.work / TIMING_CACHE)
    graphs = ScoreGraphs(checkpoint, size_px, graph.read_bytes(), build)
    label = f"YOLOv8{scale} {size_px} px, {name}"
    engines: dict[str, Engine] = {}
    with ExitStack() as stack:
        for precision in precisions.split(","):
            notes.begin(f"making the engine in {precision}")
            start = time.perf_counter()
            try:
                open_session = graphs.built((name, precision))
                build_s = time.perf_counter() - start
                session = open_session(SessionSettings(device, usable_cores()))
            except LumbarError as error:
                notes.add(Row(TIMING, f"{label} {precision}", f"not done: {error}"))
            else:
                engines[precision] = stack.enter_context(session), build_s
        if not engines:
            return
        baselines = _pytorch(checkpoint, device, notes)
        some = textured_slices(DISTINCT_SLICES, size_px, seed=1)
        for batch in map(int, batches):
            notes.begin(f"timing batches of {batch}")
            slices = np.resize(some, (batch, size_px, size_px))
            for precision, figures in _figures(baselines, engines, slices, settings.rounds).items():
                notes.add(Row(TIMING, f"{label} {precision}", OK, figures))


def _pytorch(checkpoint: Checkpoint, device: str, notes: Notes) -> dict[str, ScoreSeries]:
    """The baselines; none on a GPU if PyTorch has no CUDA."""
    if device != CPU and not torch.cuda.is_available():
        notes.add(Row(TIMING, "PyTorch", f"not run: PyTorch {torch.__version__} has no CUDA here"))
        return {}
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    plain: Any = copy.deepcopy(checkpoint.network).to(device)
    best: Any = fused(checkpoint).half().to(device, memory_format=CHANNELS_LAST)
    return {
        FP32: torch_peaks(checkpoint, lambda _: plain),
        FP16: torch_peaks(checkpoint, lambda _: best, CHANNELS_LAST),
    }


def _figures(
    baselines: Mapping[str, ScoreSeries],
    engines: Mapping[str, Engine],
    slices: NDArray[np.uint8],
    rounds: int,
) -> dict[str, dict[str, Figure]]:
    """Of each engine, all timed in the same rounds on the same batch."""
    scores: dict[str, Callable[[NDArray[np.uint8]], Peaks]] = {**baselines}
    scores |= {key: partial(session_peaks, session) for key, (session, _) in engines.items()}
    repeats = max(1, SLICES_A_TIMING // len(slices))
    calls = {key: partial(repeatedly, score, slices, repeats) for key, score in scores.items()}
    answers = {key: score(slices) for key, score in scores.items()}
    warm_up(calls.values())  # a CUDA graph is recorded in the second run
    samples = interleaved(calls, rounds=rounds)
    ms = {key: 1e3 * found / repeats / len(slices) for key, found in samples.items()}
    found = {}
    for precision, (session, build_s) in engines.items():
        flight = measure_throughput(session, slices, rounds=rounds)
        found[precision] = {
            "device": session.device,
            "batch": len(slices),
            "ms/slice": float(np.median(ms[precision])),
            **_compared(ms, answers, precision),
            "ahead": session.ahead,
            "in flight": flight[session.ahead] if session.ahead > 1 else None,
            "build s": build_s,
        }
    return found


def _compared(
    ms: Mapping[str, Samples], answers: Mapping[str, Peaks], engine: str
) -> dict[str, Figure]:
    """With PyTorch, if it was timed."""
    if FP32 not in ms:
        return {FP32: None, FP16: None}
    found = ratios(ms[FP32], ms[engine])
    return {
        FP32: float(np.median(ms[FP32])),
        FP16: float(np.median(ms[FP16])),
        "to fp32": f"{found.median:.2f}x",
        "range": f"{found.low:.2f}-{found.high:.2f}",
        "to fp16": f"{ratios(ms[FP16], ms[engine]).median:.2f}x",
        "max diff": largest_difference(answers[engine], answers[FP32]),
    }
