"""Lists GPUs, driver, processor and libraries, and which backend can run where."""

from __future__ import annotations

import shutil
import subprocess

from rsna_lumbar.benchmarks.gpu.jobs import Settings
from rsna_lumbar.benchmarks.gpu.plan import FACTS, GPU
from rsna_lumbar.benchmarks.gpu.rows import OK, Notes, Row
from rsna_lumbar.benchmarks.harness.machine import LIBRARIES
from rsna_lumbar.runtime.backends import BACKENDS
from rsna_lumbar.runtime.bundle.records import ANY_TARGET, Engine, Model, ModelFile
from rsna_lumbar.runtime.inference.compatibility import NO_GPU, ON_GPU_ONLY, judge
from rsna_lumbar.runtime.system.machine import Machine, this_machine, versions_of

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
    installed = versions_of(LIBRARIES)
    facts = {
        "CUDA of the driver": machine.driver,
        f"nvidia-smi ({QUERY})": _nvidia_smi(),
        "processor": machine.processor,
        **{name: installed.get(name) for name in ("python", *LIBRARIES)},
    }
    for name, what in facts.items():
        notes.add(Row(FACTS, name, OK, {"what": what}) if what else Row(FACTS, name, "not found"))
    for backend in BACKENDS:
        notes.add(_can_run(backend, machine))


def _nvidia_smi() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    words = [program, f"--query-gpu={QUERY}", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SMI_LIMIT_S, check=False)
    return "; ".join(done.stdout.split("\n")).strip("; ") or None


def _can_run(backend: str, machine: Machine) -> Row:
    """The runtime's verdict on a model that was built on this very machine."""
    capabilities = tuple(gpu.compute_capability for gpu in machine.gpus)
    version = machine.versions.get(backend, "")
    engine = Engine(version, capabilities, 1, 16, 64) if backend in ON_GPU_ONLY else None
    model = Model((ModelFile("any", ""),), backend, ANY_TARGET, "fp32", "", engine, None)
    verdict = judge(model, machine)
    name = f"backend {backend}"
    if not verdict.devices:
        return Row(FACTS, name, f"cannot run: {verdict.reason}")
    return Row(FACTS, name, OK, {"what": f"can run on {', '.join(verdict.devices)}"})
