"""Which jobs there are, the important ones first: the time may not suffice for the last ones."""

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
RTX = "tensorrt-rtx and the GPU here"
TIMING = "timing at real size"

GPU = "GPU"  # name of the rows of FACTS that say which there are
# What export/formats has, by format. Not asked of it: that needs libraries that may be missing.
PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "tensorrt": ("fp32", "fp16", "int8"),
    "tensorrt-rtx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
_GPU_FORMATS = {name: some for name, some in PRECISIONS.items() if name not in ON_CPU_ONLY}
NO_GPU_HERE = "not run: no NVIDIA GPU found; rsna-bench times the CPU"
LIMIT_S = 180.0  # of a job that builds
NOTES = {
    VERIFIED: (
        "largest difference and 99.9th percentile of probabilities, from the float32 graph on the "
        "CPU; metric: the official one, of too few studies to hold it to its limit",
    ),
    FLIGHT: ("8 batches of 16 slices, from the host's memory to the host's memory; medians",),
    TIMING: (
        "ms a slice, from slices in the host's memory to answers there; PyTorch eager on the same "
        "device: fp32 without TF32, fp16 fused with channels last; cuDNN's search on",
        "to fp32, range: PyTorch's time over the engine's in the same round, median and extremes; "
        "random weights, int8 calibrated on textured slices: max diff is no accuracy",
    ),
}


def first_jobs() -> Iterator[Job]:
    """Everything that a machine without a GPU can do, too."""
    yield Job(FACTS, "facts", f"{PACKAGE}.facts:list_facts")
    yield Job(DRAWN, "drawing", f"{PACKAGE}.demo:draw_studies")
    for name, precisions in PRECISIONS.items():
        for precision in precisions:
            yield Job(
                VERIFIED,
                f"{name} {precision}",
                f"{PACKAGE}.demo:check_pair",
                (name, precision),
                LIMIT_S,
            )
    yield Job(RTX, "targets", f"{PACKAGE}.rtx:check_targets")


def gpu_jobs(settings: Settings, rows: Sequence[Row]) -> Iterator[Job]:
    """What needs the GPU, given the rows so far: pairs that failed in the demo are left out."""
    for target in ("current", "default"):
        yield Job(RTX, f"{target} engine, run here", f"{PACKAGE}.rtx:run_anyway", (target,))
    scales, sizes, batches = _matrix(settings)
    for size in sizes:
        for scale in scales:
            for name, precisions in _worth_timing(rows).items():
                words = ("cuda:0", scale, size, name, ",".join(precisions), *batches)
                label = f"YOLOv8{scale} {size} px, {name}"
                yield Job(TIMING, label, f"{PACKAGE}.timing:time_engines", words, LIMIT_S)


def missing_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """What will not be timed at real size, and why."""
    if not has_gpu(rows):
        yield Row(TIMING, "all", NO_GPU_HERE)
        return
    there = _worth_timing(rows)
    for name, precisions in _GPU_FORMATS.items():
        absent = [one for one in precisions if one not in there.get(name, ())]
        if absent:
            why = "not run: it did not score the demo's studies on the GPU"
            yield Row(TIMING, f"{name} {', '.join(absent)}", why)


def has_gpu(rows: Sequence[Row]) -> bool:
    return any(row.part == FACTS and row.name == GPU and row.status == OK for row in rows)


def _matrix(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Scales, sizes in pixels, and batch sizes."""
    if settings.quick:
        return ("n",), ("384",), ("16",)
    return ("n", "s"), ("384", "640"), ("1", "16", "64")


def _worth_timing(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Precisions by format that scored the demo's studies on a GPU, or were not asked to."""
    tried = {row.name for row in rows if row.part == VERIFIED}
    scored = {
        row.name
        for row in rows
        if row.part == SUBMISSION and str(row.figures.get("device")).startswith("cuda")
    }
    found = {
        name: [
            one for one in precisions if f"{name} {one}" in scored or f"{name} {one}" not in tried
        ]
        for name, precisions in _GPU_FORMATS.items()
    }
    return {name: precisions for name, precisions in found.items() if precisions}
