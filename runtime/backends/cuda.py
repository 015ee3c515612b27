"""Whether there is an NVIDIA GPU, asked of the CUDA driver itself, without any CUDA package."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

CUDA_SUCCESS = 0


@cache
def cuda_device_count() -> int:
    """Number of GPUs that the CUDA driver offers; 0 where there is no driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != CUDA_SUCCESS:
        return 0
    if driver.cuDeviceGetCount(ctypes.byref(count)) != CUDA_SUCCESS:
        return 0
    return count.value
