"""What is here: GPUs, driver, processor, libraries, and what may run where."""

from __future__ import annotations

import shutil
import subprocess

from rsna_lumbar.benchmarks.gpu.jobs import Settings
from rsna_lumbar.benchmarks.gpu.plan import FACTS, GPU
from rsna_lumbar.benchmarks.gpu.rows import OK, Notes, Row
from rsna_lumbar.runtime.backends import BACKENDS
from rsna_lumbar.runtime.bundle.records import ANY_TARGET, Engine, Model, ModelFile
from rsna_lumbar.runtime.inference.compatibility import NO_GPU, ON_GPU_ONLY, judge
from rsna_lumbar.runtime.system.machine import Machine, this_machine, versions_of

LIBRARIES = (
    "rsna-lumbar",
    "numpy",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-cu12",
    "tensorrt-rtx",
    "cuda-bindings",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12",
    "torch",
    "ultralytics",
)
QUERY = "driver_version,clocks.max.sm,power.limit"
MIB = 2**20
SMI_LIMIT_S = 20


def list_facts(notes: Notes, settings: Settings) -> None:
    """Rows of hardware, driver, libraries and backends."""
    notes.begin("asking the CUDA driver")
    machine = this_machine()
    for number, gpu in enumerate(machine.gpus):
        words = f"{gpu.name}, compute capability {gpu.compute_capability}"
        figures = {"device": f"cuda:{number}", "what": f"{words}, {gpu.memory_bytes // MIB} MiB"}
        notes.add(Row(FACTS, GPU, OK, figures))
    if not machine.gpus:
        notes.add(Row(FACTS, GPU, NO_GPU))
    notes.add(_fact("CUDA of the driver", machine.driver, "no driver"))
    notes.add(_fact(f"nvidia-smi ({QUERY})", _nvidia_smi(), "not there"))
    notes.add(_fact("processor", machine.processor, ""))
    installed = versions_of(LIBRARIES)
    for name in ("python", *LIBRARIES):
        notes.add(_fact(name, installed.get(name), "not installed"))
    for backend in BACKENDS:
        notes.add(_may_run(backend, machine))


def _fact(name: str, what: str | None, otherwise: str) -> Row:
    return Row(FACTS, name, otherwise) if what is None else Row(FACTS, name, OK, {"what": what})


def _nvidia_smi() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    words = [program, f"--query-gpu={QUERY}", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SMI_LIMIT_S, check=False)
    return "; ".join(done.stdout.split("\n")).strip("; ") or None


def _may_run(backend: str, machine: Machine) -> Row:
    """What the runtime would say to a model that was built on this very machine."""
    capabilities = tuple(gpu.compute_capability for gpu in machine.gpus)
    version = machine.versions.get(backend, "")
    engine = Engine(version, capabilities, 1, 16, 64) if backend in ON_GPU_ONLY else None
    model = Model((ModelFile("any", ""),), backend, ANY_TARGET, "fp32", "", engine, None)
    verdict = judge(model, machine)
    name = f"backend {backend}"
    if not verdict.devices:
        return Row(FACTS, name, f"cannot run: {verdict.reason}")
    return Row(FACTS, name, OK, {"what": f"may run on {', '.join(verdict.devices)}"})
