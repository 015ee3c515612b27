"""Hardware and versions, for the conditions of every report."""

from __future__ import annotations

import platform
from itertools import chain

from rsna_lumbar.runtime.system.machine import DISTRIBUTIONS, cpu_fields, this_machine, versions_of

LIBRARIES = (
    "rsna-lumbar",
    "torch",
    "ultralytics",
    "onnx",
    *chain.from_iterable(DISTRIBUTIONS.values()),
    "cuda-bindings",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12",
    "numpy",
    "pydicom",
    "pylibjpeg-rle",
    "pillow",
)
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")


def describe_machine() -> str:
    """Processor, its vector extensions, usable cores, and system, in one line."""
    flags = cpu_fields().get("flags", "").split()
    extensions = " ".join(name for name in FEATURES if name in flags)
    return (
        f"{this_machine().processor}, {extensions or 'vector extensions unknown'}, "
        f"{platform.system()} {platform.machine()}"
    )


def machine_conditions() -> dict[str, str]:
    """Machine, and versions of Python and the installed libraries, a line each."""
    found = versions_of(LIBRARIES)
    versions = ", ".join(f"{name} {number}" for name, number in found.items())
    return {"machine": describe_machine(), "versions": versions}
