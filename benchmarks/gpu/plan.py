"""The jobs, the important ones first: there may be no time for the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rsna_lumbar.benchmarks.gpu.jobs import Job, Settings
from rsna_lumbar.benchmarks.gpu.rows import OK, Row
from rsna_lumbar.runtime.inference.compatibility import ON_CPU_ONLY

PACKAGE = "rsna_lumbar.benchmarks.gpu"
FACTS = "what is here"
DRAWN = "phantom studies"
VERIFIED = "demo bundle, verified"
SUBMISSION = "demo studies, rows against float32 on the CPU"
FLIGHT = "batches in flight, demo bundle"
TIMING = "timing at real size"

GPU = "GPU"  # name of the rows of FACTS for GPUs
# By format. export/formats would say so, but needs libraries that may be missing.
PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "tensorrt": ("fp32", "fp16", "int8"),
    "tensorrt-rtx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
NO_GPU_HERE = "not run: no NVIDIA GPU found; rsna-bench times the CPU"
LIMIT_S = 180.0  # of a job that builds
GPU_FORMATS = {name: some for name, some in PRECISIONS.items() if name not in ON_CPU_ONLY}
# By whether it is quick: scales, sizes in pixels, and batch sizes.
SIZES = {
    True: (("n",), ("384",), ("16",)),
    False: (("n", "s"), ("384", "640"), ("1", "16", "64")),
}
NOTES = {
    VERIFIED: "largest difference and 99.9th percentile of probabilities, from the float32 graph "
    "on the CPU; the official metric is of too few studies to apply its limit",
    FLIGHT: "8 batches of 16 slices, from host memory to host memory; medians",
    TIMING: "ms per slice, from slices in host memory to results there; PyTorch eager on the same "
    "device: fp32 without TF32, fp16 fused with channels last, cuDNN's search on; to fp32, range: "
    "PyTorch's time over the engine's in the same round, median and extremes; random weights, "
    "int8 calibrated on textured slices: max diff says nothing about accuracy",
}


def first_jobs() -> Iterator[Job]:
    """Jobs that a machine without a GPU can do too."""
    yield Job(FACTS, "facts", f"{PACKAGE}.facts:list_facts")
    yield Job(DRAWN, "drawing", f"{PACKAGE}.demo:draw_studies")
    for name, precisions in PRECISIONS.items():
        for precision in precisions:
            pair = (name, precision)
            yield Job(VERIFIED, " ".join(pair), f"{PACKAGE}.demo:check_pair", pair, LIMIT_S)


def gpu_jobs(settings: Settings, rows: Sequence[Row]) -> Iterator[Job]:
    """Timing on the GPU, given the rows so far: without pairs that failed in the demo."""
    scales, sizes, batches = SIZES[settings.quick]
    for size in sizes:
        for scale in scales:
            for name, precisions in _worth_timing(rows).items():
                words = ("cuda:0", scale, size, name, ",".join(precisions), *batches)
                label = f"YOLOv8{scale} {size} px, {name}"
                if precisions:
                    yield Job(TIMING, label, f"{PACKAGE}.timing:time_engines", words, LIMIT_S)


def missing_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """Rows for what will not be timed at real size, with the reason."""
    if not has_gpu(rows):
        yield Row(TIMING, "all", NO_GPU_HERE)
        return
    there = _worth_timing(rows)
    for name, precisions in GPU_FORMATS.items():
        absent = [one for one in precisions if one not in there[name]]
        if absent:
            why = "not run: it did not score the demo's studies on the GPU"
            yield Row(TIMING, f"{name} {', '.join(absent)}", why)


def has_gpu(rows: Sequence[Row]) -> bool:
    return any(row.part == FACTS and row.name == GPU and row.status == OK for row in rows)


def _worth_timing(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Precisions by format that scored the demo's studies on a GPU, or were not asked to."""
    tried = {row.name for row in rows if row.part == VERIFIED}
    scored = {
        row.name
        for row in rows
        if row.part == SUBMISSION and str(row.figures.get("device")).startswith("cuda")
    }
    worth = {}
    for name, precisions in GPU_FORMATS.items():
        pairs = {one: f"{name} {one}" for one in precisions}
        worth[name] = [one for one, pair in pairs.items() if pair in scored or pair not in tried]
    return worth
