"""What one would run otherwise, each at the best settings that were found.

Measured with YOLOv8n at 384 px, batch 16, 2 threads, ms a slice, one run for each library:

    PyTorch    as saved 27.2; channels last 21.1; fused, channels last 18.5 (fused alone is 1.1x);
               compiled: as saved 19.6, fused 18.0, with freezing 17.7, channels last 16.5
    ONNX       as it is 16.4; threads that do not spin 16.4; denormals as zero 16.4; batch or all
    Runtime    dimensions fixed 1.00 of that; optimised no further than EXTENDED 21.7
    OpenVINO   any batch 15.6; batch fixed 13.1; hint LATENCY 13.4; THROUGHPUT, or two streams with
    (float32)  half a batch each 12.9, which a batch of one slice cannot have; pinned threads 13.7
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.model.work import Peaks, ScoreSeries, Slices, Work, by_batch
from rsna_lumbar.export.checkpoints.reference import BOX_ROWS, batch_peaks
from rsna_lumbar.runtime.backends.openvino import convolution_precisions
from rsna_lumbar.runtime.backends.openvino_library import openvino_core
from rsna_lumbar.runtime.core.errors import UsageError

WHITE = np.float32(255)
LOWEST_CONFIDENCE = 1e-3  # of ultralytics' predict, as its own validation uses
OPENVINO_HINT = {"fp32": "f32", "bf16": "bf16"}  # bf16 is its default where the CPU has it


@contextmanager
def pytorch_forward(work: Work) -> Iterator[ScoreSeries]:
    """The unmodified network as it was saved: forward pass, maximum over anchors."""
    yield by_batch(work, lambda slices: batch_peaks(work.checkpoint, slices).max(axis=0))


@contextmanager
def pytorch_fused(work: Work) -> Iterator[ScoreSeries]:
    """The same with ultralytics' own fusing of batch norms, which ``predict`` does too."""
    fused = replace(work.checkpoint, network=_fused(work))
    yield by_batch(work, lambda slices: batch_peaks(fused, slices).max(axis=0))


@contextmanager
def pytorch_channels_last(work: Work) -> Iterator[ScoreSeries]:
    """Fused, with the channels of a pixel beside each other in memory."""
    network = _fused(work).to(memory_format=torch.channels_last)
    yield by_batch(work, _channels_last(work, lambda _: network))


@contextmanager
def pytorch_bf16(work: Work) -> Iterator[ScoreSeries]:
    """Fused, channels last, with torch's automatic casting to bfloat16."""
    network = _fused(work).to(memory_format=torch.channels_last)
    peaks = _channels_last(work, lambda _: network)

    def cast(slices: Slices) -> Peaks:
        with torch.autocast("cpu", torch.bfloat16):
            return peaks(slices)

    yield by_batch(work, cast)


@contextmanager
def pytorch_compiled(work: Work) -> Iterator[ScoreSeries]:
    """Fused, channels last, through ``torch.compile``: one whole graph for each size of batch."""
    torch.compiler.reset()  # else it gives up after eight of them in a process
    networks: dict[int, Any] = {}
    peaks = _channels_last(work, networks.__getitem__)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for size in work.batch_sizes:
                blank = np.zeros((size, work.size_px, work.size_px), np.uint8)
                networks[size] = _fused(work).to(memory_format=torch.channels_last)
                peaks(blank)  # makes the anchors of the shape, which cannot be compiled
                networks[size] = torch.compile(networks[size], dynamic=False, fullgraph=True)
                peaks(blank)
    except Exception as error:  # of dynamo, inductor or the C++ compiler
        raise UsageError(f"torch.compile failed: {_first_line(error)}") from error
    yield by_batch(work, peaks)


@contextmanager
def ultralytics_predict(work: Work) -> Iterator[ScoreSeries]:
    """``YOLO.predict`` with its box decode and NMS; the highest confidence of each class.

    It keeps one class an anchor, so its peaks are not those of the forward pass.
    """
    from ultralytics.models import YOLO

    model: Any = YOLO(work.checkpoint.path)
    order = list(work.checkpoint.order)

    def peaks(slices: Slices) -> Peaks:
        images = [np.repeat(one[:, :, None], work.checkpoint.channels, axis=2) for one in slices]
        found = np.zeros(len(order), np.float32)
        for result in model.predict(
            images,
            imgsz=work.size_px,
            batch=len(images),
            conf=LOWEST_CONFIDENCE,
            device="cpu",
            verbose=False,
        ):
            boxes = result.boxes
            np.maximum.at(found, boxes.cls.int().numpy(), boxes.conf.numpy())
        return found[order]

    yield by_batch(work, peaks)


@contextmanager
def ultralytics_onnx(work: Work) -> Iterator[ScoreSeries]:
    """ultralytics' own ONNX export in ONNX Runtime; maximum over anchors in numpy."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = work.threads
    options.inter_op_num_threads = 1
    path = str(work.exports.path("onnx"))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    yield by_batch(work, _own(work, lambda images: session.run(None, {"images": images})[0]))


@contextmanager
def ultralytics_openvino(precision: str, work: Work) -> Iterator[ScoreSeries]:
    """ultralytics' own OpenVINO export, compiled for each size of batch; the same maximum."""
    core = openvino_core()
    options = {
        "INFERENCE_PRECISION_HINT": OPENVINO_HINT[precision],
        "INFERENCE_NUM_THREADS": work.threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    requests: dict[int, Any] = {}

    def request(batch_size: int) -> Any:
        if batch_size not in requests:
            model = core.read_model(work.exports.path("openvino"))
            model.reshape([batch_size, work.checkpoint.channels, work.size_px, work.size_px])
            compiled = core.compile_model(model, "CPU", options)
            if set(convolution_precisions(compiled)) != {OPENVINO_HINT[precision]}:
                raise UsageError(f"OpenVINO does not compute in {precision} on this CPU")
            requests[batch_size] = compiled.create_infer_request()
        return requests[batch_size]

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        one = request(len(images))
        one.infer([images], share_inputs=True)
        scores: NDArray[np.float32] = one.get_output_tensor(0).data
        return scores

    request(work.batch_size)  # refused here, not while timing
    yield by_batch(work, _own(work, run))


def _own(work: Work, run: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> ScoreSeries:
    """Peaks by an export that takes images (N, C, S, S) and returns (N, 4 + classes, anchors)."""
    order = list(work.checkpoint.order)

    def peaks(slices: Slices) -> Peaks:
        grey = slices[:, None].astype(np.float32) / WHITE  # (N, 1, S, S)
        scores = run(np.repeat(grey, work.checkpoint.channels, axis=1))
        return np.asarray(scores[:, BOX_ROWS:].max(axis=(0, 2))[order], np.float32)

    return peaks


def _channels_last(work: Work, network_for: Callable[[int], Any]) -> ScoreSeries:
    """Peaks by a network that is chosen by the size of the batch."""
    order, channels = list(work.checkpoint.order), work.checkpoint.channels

    def peaks(slices: Slices) -> Peaks:
        with torch.inference_mode():
            grey = torch.from_numpy(slices)[:, None].to(torch.float32) / float(WHITE)
            images = grey.expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)
            scores, _ = network_for(len(slices))(images)
            peaks = scores[:, BOX_ROWS:].amax(dim=(0, 2)).float()
            return np.asarray(peaks.numpy()[order], np.float32)

    return peaks


def _fused(work: Work) -> Any:
    network: Any = copy.deepcopy(work.checkpoint.network)
    return network.fuse(verbose=False).eval()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
