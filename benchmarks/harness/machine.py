"""Hardware and versions, as they stand beside every figure."""

from __future__ import annotations

import platform

from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.machine import cpu_fields, processor_name, versions_of

LIBRARIES = (
    "rsna-lumbar",
    "torch",
    "ultralytics",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "openvino",
    "numpy",
    "pydicom",
    "pylibjpeg-rle",
    "pillow",
)
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")


def describe_machine() -> str:
    """Processor, its vector extensions, cores that may be used, and system, in one line."""
    flags = cpu_fields().get("flags", "").split()
    extensions = " ".join(name for name in FEATURES if name in flags)
    return (
        f"{processor_name()}, {usable_cores()} cores, {extensions or 'vector extensions unknown'}, "
        + (f"{platform.system()} {platform.machine()}")
    )


def versions() -> str:
    """Python and the libraries that are there, in one line."""
    return ", ".join(f"{name} {number}" for name, number in versions_of(LIBRARIES).items())
