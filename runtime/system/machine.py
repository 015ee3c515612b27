"""What this machine offers for running models, found without loading a runtime library.

Versions come from package metadata and GPUs from the CUDA driver: nothing that could crash, or that
takes seconds to import, is imported only to find out that a model cannot run here.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from rsna_lumbar.runtime.system.cores import usable_cores
from rsna_lumbar.runtime.system.gpus import CudaDevice, cuda_devices, driver_version

CPU_INFO = Path("/proc/cpuinfo")
CPU = "cpu"
VNNI = {"avx512_vnni", "avx_vnni"}
# Distributions that provide a backend's library; the first one installed counts.
DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt-rtx": ("tensorrt-rtx",),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, GPUs, and installed runtime libraries."""

    processor: str
    gpus: tuple[CudaDevice, ...]
    driver: str | None  # version of the CUDA driver
    versions: Mapping[str, str]  # backend -> version of its library, if installed

    def describe(self, device: str) -> str:
        """``cpu`` or ``cuda:N`` in words, as in measurements made on it."""
        if device == CPU:
            return self.processor
        return self.gpus[int(device.partition(":")[2])].name


@cache
def this_machine() -> Machine:
    """The machine that this process runs on."""
    return Machine(
        processor=f"{processor_name()}, {usable_cores()} cores",
        gpus=cuda_devices(),
        driver=driver_version(),
        versions={
            backend: found
            for backend, names in DISTRIBUTIONS.items()
            if (found := _first_version(names)) is not None
        },
    )


def kind_of(device: str) -> str:
    """``cpu`` or ``cuda``."""
    return device.partition(":")[0]


def processor_name() -> str:
    """The processor's name, as it reports it."""
    return cpu_fields().get("model name") or platform.processor() or platform.machine()


def has_vnni() -> bool:
    """Whether the processor multiplies 8-bit integers without saturating; False if unknown."""
    return bool(VNNI.intersection(cpu_fields().get("flags", "").split()))


def cpu_fields() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; empty if the file does not exist."""
    if not CPU_INFO.exists():
        return {}
    first = CPU_INFO.read_text(encoding="utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _first_version(names: tuple[str, ...]) -> str | None:
    """Version without a suffix after the four numbers, such as ``.post1``; libraries omit it."""
    found = versions_of(names)
    version = next((found[name] for name in names if name in found), None)
    return version and ".".join(version.split(".")[:4])


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of each installed distribution."""
    found = {"python": platform.python_version()}
    for name in distributions:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
