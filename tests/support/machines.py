"""Machines that are not this one, and engines for them."""

from __future__ import annotations

import struct
from dataclasses import replace

from toys import TOY_MODEL, TOY_PARITY

from rsna_lumbar.runtime.bundle.records import Engine, Model, ModelFile, Parity
from rsna_lumbar.runtime.system.gpus import CudaDevice
from rsna_lumbar.runtime.system.machine import Machine

L4 = CudaDevice("NVIDIA L4", "8.9", 24 << 30)
H100 = CudaDevice("NVIDIA H100", "9.0", 80 << 30)
ALL_LIBRARIES = {
    "onnxruntime": "1.31.1",
    "openvino": "2026.4.1",
    "tensorrt": "11.4.0.106",
    "tensorrt-rtx": "1.7.1.116",
}
PROCESSOR = "a processor, 2 cores"
ENGINE = Engine("11.4.0.106", ("8.9",), 1, 16, 64)
ENGINE_SHA256 = 64 * "e"


def machine(*gpus: CudaDevice, without: str = "") -> Machine:
    """A machine with these GPUs and every library but one."""
    versions = {name: v for name, v in ALL_LIBRARIES.items() if name != without}
    return Machine(PROCESSOR, gpus, "13.0" if gpus else None, versions)


def parity(device: str = "cpu", hardware: str = PROCESSOR, ms: float | None = 1.0) -> Parity:
    return replace(TOY_PARITY, device=device, hardware=hardware, ms_per_slice=ms)


def portable(backend: str = "onnxruntime", precision: str = "fp32", **parity_of: object) -> Model:
    """A model for the CPU, measured on the machine above."""
    found = parity(**parity_of)  # type: ignore[arg-type]
    return replace(TOY_MODEL, backend=backend, precision=precision, parity=found)


def engine(backend: str = "tensorrt", built: Engine = ENGINE, precision: str = "fp16") -> Model:
    """An engine for an L4, measured on one."""
    return Model(
        files=(ModelFile("engine.plan", ENGINE_SHA256),),
        backend=backend,
        target="sm89",
        precision=precision,
        weights_sha256=TOY_MODEL.weights_sha256,
        engine=built,
        parity=parity("cuda:0", L4.name, 0.2),
    )


def plan_of(version: str, magic: int = 0x74727466, body: bytes = b"engine" * 10) -> bytes:
    """A plan: a header as TensorRT writes it, and nothing that any library could open."""
    numbers = [int(number) for number in version.split(".")]
    return struct.pack("<II8xQ4B", magic, 0, 28 + len(body), *numbers) + body
