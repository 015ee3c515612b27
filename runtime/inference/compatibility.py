"""Decide whether a model can run on this machine, before any runtime library loads it.

The manifest and the facts of the machine are checked first (library and version, GPU, compute
capability, batch range, origin), then the hash, and for an engine the plain header of its file. A
runtime library only gets files that pass all checks.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from rsna_lumbar.runtime.backends import BACKENDS
from rsna_lumbar.runtime.bundle.plan_header import PlanHeaderError, require_plan
from rsna_lumbar.runtime.bundle.records import REBUILD, Engine, Model
from rsna_lumbar.runtime.bundle.store import read_model
from rsna_lumbar.runtime.core.errors import BundleError
from rsna_lumbar.runtime.system.gpus import device_index
from rsna_lumbar.runtime.system.machine import CPU, Machine

AUTO = "auto"
FIRST_GPU = "cuda:0"
NO_GPU = "no NVIDIA GPU found"
ON_GPU_ONLY = ("tensorrt", "tensorrt-rtx")
ON_CPU_ONLY = ("openvino",)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The devices that a model can run on, the best first, or the reason why it cannot run."""

    devices: tuple[str, ...]  # "cpu" or "cuda:N"
    reason: str = ""


def _no(reason: str) -> Verdict:
    return Verdict((), reason)


def judge(
    model: Model,
    machine: Machine,
    *,
    device: str = AUTO,
    batch_size: int | None = None,
    trusted: Container[str] | None = None,
) -> Verdict:
    """Decide from the manifest alone.

    Args:
        model: the model as the manifest describes it.
        machine: this machine.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        batch_size: the requested batch size; None accepts the engine's own.
        trusted: SHA-256 of the engines that may be opened; None trusts all.

    Raises:
        UsageError: the device is not valid, or this machine does not have it.
    """
    if device not in (AUTO, CPU):
        device_index(device, len(machine.gpus))
    if model.backend not in BACKENDS:
        return _no(f"this version knows no backend {model.backend!r}")
    if model.backend not in machine.versions:
        extra = "" if model.backend == "onnxruntime" else f"[{model.backend}]"
        return _no(f"{model.backend} is not installed: pip install 'rsna-lumbar{extra}'")
    if model.engine is not None:
        return _judge_engine(model, model.engine, machine, device, batch_size, trusted)
    if model.backend in ON_GPU_ONLY:
        return _no("the manifest says nothing of the engine")
    return _judge_portable(model, machine, device)


def checked_contents(folder: Path, model: Model) -> tuple[bytes, ...]:
    """Contents of a model's files, after checking the hashes and then the header of an engine.

    Raises:
        BundleError: a file differs from the manifest.
    """
    contents = read_model(folder, model)
    if model.engine is not None:
        path = folder / model.files[0].name
        try:
            require_plan(contents[0], model.backend, model.engine.version)
        except PlanHeaderError as error:
            raise BundleError(f"{path} {error}; {REBUILD}") from error
    return contents


def _judge_portable(model: Model, machine: Machine, device: str) -> Verdict:
    if model.backend in ON_CPU_ONLY:
        runs = device in (AUTO, CPU)
        return Verdict((CPU,)) if runs else _no(f"{model.backend} runs on the CPU only")
    if device == AUTO:
        return Verdict((FIRST_GPU, CPU) if machine.gpus else (CPU,))
    return Verdict((device,))


def _judge_engine(
    model: Model,
    engine: Engine,
    machine: Machine,
    device: str,
    batch_size: int | None,
    trusted: Container[str] | None,
) -> Verdict:
    if device == CPU:
        return _no("an engine runs on a GPU only")
    if not machine.gpus:
        return _no(NO_GPU)
    installed = machine.versions[model.backend]
    if engine.version != installed:
        return _no(
            f"built by {model.backend} {engine.version}, installed is {installed}; build it here: "
            f"rsna-export BUNDLE --format {model.backend} --precision {model.precision}",
        )
    numbers = range(len(machine.gpus)) if device == AUTO else [int(device.partition(":")[2])]
    fitting = [
        number
        for number in numbers
        if machine.gpus[number].compute_capability in engine.compute_capabilities
    ]
    if not fitting:
        return _no(
            f"built for compute capability {', '.join(engine.compute_capabilities)}; here is "
            + ", ".join(
                f"{machine.gpus[n].compute_capability} ({machine.gpus[n].name})" for n in numbers
            ),
        )
    if batch_size is not None and not engine.least_batch <= batch_size <= engine.largest_batch:
        return _no(
            f"takes batches of {engine.least_batch} to {engine.largest_batch} slices; "
            "change --batch-size",
        )
    if trusted is not None and not all(file.sha256 in trusted for file in model.files):
        return _no("an engine from elsewhere, and engines are code: --trust to accept it")
    return Verdict((f"cuda:{fitting[0]}",))
