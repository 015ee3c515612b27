"""The NVIDIA GPUs of this machine, reported by the CUDA driver, without any CUDA package."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache

from rsna_lumbar.runtime.core.errors import UsageError

CUDA_SUCCESS = 0
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A GPU reported by the driver; its index in the tuple is the N of ``cuda:N``."""

    name: str
    compute_capability: str  # such as "8.9"
    memory_bytes: int


@cache
def cuda_devices() -> tuple[CudaDevice, ...]:
    """GPUs reported by the CUDA driver; none if there is no driver, or it cannot start."""
    driver = _driver()
    count = ctypes.c_int(0)
    if driver is None or driver.cuInit(0) != CUDA_SUCCESS:
        return ()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != CUDA_SUCCESS:
        return ()
    devices = [_device(driver, index) for index in range(count.value)]
    # A GPU that does not answer ends the list: the indices of the GPUs after it would be wrong.
    return tuple(devices[: devices.index(None)] if None in devices else devices)  # type: ignore[arg-type]


@cache
def driver_version() -> str | None:
    """Newest CUDA version that the driver supports, such as ``13.0``; None without a driver."""
    driver = _driver()
    version = ctypes.c_int(0)
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != CUDA_SUCCESS:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def device_index(device: str, count: int) -> int:
    """The N of ``cuda:N``, after checking that it is one of so many GPUs.

    Raises:
        UsageError: it is no GPU, or not there.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number.isdecimal():
        raise UsageError(f"{device!r} is no GPU; there is cuda:0, cuda:1, ..., or auto or cpu")
    if int(number) >= count:
        raise UsageError(
            f"{device} is not there: {count} NVIDIA GPUs found; use --device cpu --backend auto"
        )
    return int(number)


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _device(driver: ctypes.CDLL, index: int) -> CudaDevice | None:
    handle, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    name = ctypes.create_string_buffer(NAME_BYTES)
    memory = ctypes.c_size_t(0)
    answers = (  # ``or``: a device that gives no handle is not queried further
        driver.cuDeviceGet(ctypes.byref(handle), index)
        or driver.cuDeviceGetName(name, NAME_BYTES, handle)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, handle)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, handle)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    )
    if answers != CUDA_SUCCESS:
        return None
    capability = f"{major.value}.{minor.value}"
    return CudaDevice(name.value.decode("utf-8", "replace"), capability, memory.value)
