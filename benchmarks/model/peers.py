"""The usual ways of running the network, each with the best settings that were found.

Each function returns the peaks of one batch, (C,) in canonical order; ``work`` tells its sizes.

Measured with YOLOv8n at 384 px, batch 16, 2 threads, ms per slice, one run for each library:

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
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rsna_lumbar.benchmarks.harness.method import open_predictor, predicted_peaks
from rsna_lumbar.benchmarks.model.peak import CPU_ONLY, cpu_options
from rsna_lumbar.benchmarks.model.work import Peaks, ScoreSeries, Slices, Work, own_export
from rsna_lumbar.export.checkpoints.checkpoint import Checkpoint
from rsna_lumbar.export.checkpoints.reference import BOX_ROWS, WHITE
from rsna_lumbar.runtime.backends.openvino import convolution_precisions
from rsna_lumbar.runtime.backends.openvino_library import openvino_core
from rsna_lumbar.runtime.core.errors import UsageError

CHANNELS_LAST = torch.channels_last
OPENVINO_HINT = {"fp32": "f32", "bf16": "bf16"}  # bf16 is its default if the CPU has it


def pytorch_forward(work: Work) -> ScoreSeries:
    """The unmodified network as it was saved: forward pass, maximum over anchors."""
    return torch_peaks(work.checkpoint, lambda _: work.checkpoint.network)


def pytorch_fused(work: Work) -> ScoreSeries:
    """The same with ultralytics' own fusing of batch norms, which ``predict`` does too."""
    network = fused(work.checkpoint)
    return torch_peaks(work.checkpoint, lambda _: network)


def pytorch_channels_last(work: Work) -> ScoreSeries:
    """Fused, with the channels of a pixel adjacent in memory."""
    network = fused(work.checkpoint).to(memory_format=CHANNELS_LAST)
    return torch_peaks(work.checkpoint, lambda _: network, CHANNELS_LAST)


def pytorch_bf16(work: Work) -> ScoreSeries:
    """Fused, channels last, with torch's automatic casting to bfloat16."""
    peaks = pytorch_channels_last(work)

    def cast(slices: Slices) -> Peaks:
        with torch.autocast("cpu", torch.bfloat16):
            return peaks(slices)

    return cast


def pytorch_compiled(work: Work) -> ScoreSeries:
    """Fused, channels last, through ``torch.compile``: one whole graph for each size of batch."""
    torch.compiler.reset()  # otherwise it gives up after eight graphs in a process
    networks: dict[int, Any] = {}
    peaks = torch_peaks(work.checkpoint, networks.__getitem__, CHANNELS_LAST)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for size in work.batch_sizes:
                blank = np.zeros((size, work.size_px, work.size_px), np.uint8)
                networks[size] = fused(work.checkpoint).to(memory_format=CHANNELS_LAST)
                peaks(blank)  # makes the anchors of the shape, which cannot be compiled
                networks[size] = torch.compile(networks[size], dynamic=False, fullgraph=True)
                peaks(blank)
    except Exception as error:  # of dynamo, inductor or the C++ compiler
        first, *_ = [*str(error).strip().splitlines(), "no reason given"]
        raise UsageError(f"torch.compile failed: {type(error).__name__}: {first}") from error
    return peaks


def ultralytics_predict(work: Work) -> ScoreSeries:
    """``YOLO.predict`` with its box decode and NMS; the highest confidence of each class.

    It keeps one class per anchor, so its peaks are not those of the forward pass.
    """
    model = open_predictor(work.checkpoint.path, work.threads)
    order = list(work.checkpoint.order)

    def peaks(slices: Slices) -> Peaks:
        images = [np.repeat(one[:, :, None], work.checkpoint.channels, axis=2) for one in slices]
        found, _ = predicted_peaks(model, images, size_px=work.size_px)
        return np.array([*found.values()], np.float32)[order]

    return peaks


def ultralytics_onnx(work: Work) -> ScoreSeries:
    """ultralytics' own ONNX export in ONNX Runtime; maximum over anchors in numpy."""
    import onnxruntime as ort

    path = str(own_export(work.checkpoint, work.size_px, work.folder, "onnx"))
    session = ort.InferenceSession(path, cpu_options(work.threads), providers=CPU_ONLY)
    return _own(work, lambda images: session.run(None, {"images": images})[0])


def ultralytics_openvino(precision: str, work: Work) -> ScoreSeries:
    """ultralytics' own OpenVINO export, compiled for each size of batch; the same maximum."""
    core = openvino_core()
    path = own_export(work.checkpoint, work.size_px, work.folder, "openvino")
    options = {
        "INFERENCE_PRECISION_HINT": OPENVINO_HINT[precision],
        "INFERENCE_NUM_THREADS": work.threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    requests: dict[int, Any] = {}

    def request(batch_size: int) -> Any:
        if batch_size not in requests:
            model = core.read_model(path)
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
    return _own(work, run)


def torch_peaks(
    checkpoint: Checkpoint,
    network_for: Callable[[int], Any],
    memory_format: torch.memory_format | None = None,
) -> ScoreSeries:
    """Peaks by a network in PyTorch, on its device and in its precision.

    Args:
        checkpoint: tells channels and the order of classes.
        network_for: called with the number of slices in a batch.
        memory_format: of the images; None does not copy the grey channel.
    """
    order, channels = list(checkpoint.order), checkpoint.channels

    def peaks(slices: Slices) -> Peaks:
        network = network_for(len(slices))
        like = next(network.parameters())
        with torch.inference_mode():
            grey = torch.from_numpy(slices).to(like.device)[:, None].to(like.dtype) / WHITE
            images = grey.expand(-1, channels, -1, -1)
            if memory_format is not None:
                images = images.contiguous(memory_format=memory_format)
            scores, _ = network(images)  # (N, 4 + C, A)
            found = scores[:, BOX_ROWS:].amax(dim=(0, 2)).float().cpu().numpy()
        return np.asarray(found[order], np.float32)

    return peaks


def fused(checkpoint: Checkpoint) -> Any:
    """A copy of the network with its batch norms fused."""
    return copy.deepcopy(checkpoint.network).fuse(verbose=False).eval()


def _own(work: Work, run: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> ScoreSeries:
    """Peaks by an export that takes images (N, C, S, S) and returns (N, 4 + classes, anchors)."""
    order = list(work.checkpoint.order)

    def peaks(slices: Slices) -> Peaks:
        grey = slices[:, None].astype(np.float32) / np.float32(WHITE)  # (N, 1, S, S)
        scores = run(np.repeat(grey, work.checkpoint.channels, axis=1))
        return np.asarray(scores[:, BOX_ROWS:].max(axis=(0, 2))[order], np.float32)

    return peaks
