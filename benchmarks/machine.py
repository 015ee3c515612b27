"""Hardware and versions, as they stand beside every figure."""

from __future__ import annotations

import platform
from pathlib import Path

from rsna_lumbar.runtime.processes import usable_cores
from rsna_lumbar.runtime.versions import versions_of

LIBRARIES = ("rsna-lumbar", "torch", "ultralytics", "onnxruntime-gpu", "onnxruntime", "numpy")
CPU_INFO = Path("/proc/cpuinfo")
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")


def describe_machine() -> str:
    """Processor, its vector extensions, cores that may be used, and system, in one line."""
    fields = _cpu_fields()
    flags = fields.get("flags", "").split()
    extensions = " ".join(name for name in FEATURES if name in flags)
    name = fields.get("model name") or platform.processor() or platform.machine()
    return f"{name}, {usable_cores()} cores, {extensions or 'vector extensions unknown'}, " + (
        f"{platform.system()} {platform.machine()}"
    )


def versions() -> str:
    """Python and the libraries that are there, in one line."""
    return ", ".join(f"{name} {number}" for name, number in versions_of(LIBRARIES).items())


def _cpu_fields() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; none where there is no such file."""
    if not CPU_INFO.exists():
        return {}
    first = CPU_INFO.read_text(encoding="utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
