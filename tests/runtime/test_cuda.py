"""Questions to the CUDA driver, against a driver that answers as it is told."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rsna_lumbar.runtime.core.errors import UsageError
from rsna_lumbar.runtime.system.gpus import (
    CudaDevice,
    cuda_devices,
    device_index,
    driver_version,
)

NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
ADA = CudaDevice("NVIDIA L4", "8.9", 23_034_068_992)
HOPPER = CudaDevice("NVIDIA H100 80GB HBM3", "9.0", 84_929_347_584)


class Driver:
    """libcuda's functions; those in ``failing`` answer with an error."""

    def __init__(self, *devices: CudaDevice, failing: str = "", index: int = -1) -> None:
        self.devices = devices
        self.failing = failing
        self.index = index  # of the device that fails; -1 for all

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *arguments: self._answer(name, *arguments)

    def _answer(self, name: str, *arguments: Any) -> int:
        of = arguments[-1].value if isinstance(arguments[-1], ctypes.c_int) else arguments[-1]
        if name == self.failing and self.index in (-1, of):
            return NO_DEVICE
        getattr(self, f"_{name}")(*arguments)
        return 0

    def _cuInit(self, flags: int) -> None:
        assert flags == 0

    def _cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = len(self.devices)

    def _cuDriverGetVersion(self, version: Any) -> None:
        version._obj.value = 13020

    def _cuDeviceGet(self, handle: Any, index: int) -> None:
        handle._obj.value = index

    def _cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> None:
        name.value = self.devices[device.value].name.encode()[: size - 1]

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> None:
        place = {75: 0, 76: 1}[attribute]  # as in gpus.h: major, minor
        value._obj.value = int(self.devices[device.value].compute_capability.split(".")[place])

    def _cuDeviceTotalMem_v2(self, memory: Any, device: ctypes.c_int) -> None:
        memory._obj.value = self.devices[device.value].memory_bytes


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    for cached in (cuda_devices, driver_version):
        cached.cache_clear()
    yield
    for cached in (cuda_devices, driver_version):
        cached.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    def load(name: str) -> Driver:
        assert name in ("libcuda.so.1", "nvcuda.dll")
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)


def test_without_a_driver_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert cuda_devices() == ()
    assert driver_version() is None


def test_devices_are_described_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Driver(ADA, HOPPER))
    assert cuda_devices() == (ADA, HOPPER)
    assert driver_version() == "13.2"


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGetCount"])
def test_a_driver_that_does_not_start_offers_nothing(
    monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    use(monkeypatch, Driver(ADA, failing=failing))
    assert cuda_devices() == ()


def test_a_driver_that_does_not_tell_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Driver(ADA, failing="cuDriverGetVersion"))
    assert driver_version() is None


@pytest.mark.parametrize(
    "failing", ["cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceTotalMem_v2"]
)
def test_a_device_that_does_not_answer_ends_the_row(
    monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    use(monkeypatch, Driver(ADA, HOPPER, ADA, failing=failing, index=1))
    assert cuda_devices() == (ADA,)


@pytest.mark.parametrize(("device", "index"), [("cuda:0", 0), ("cuda:1", 1)])
def test_a_device_that_is_there(device: str, index: int) -> None:
    assert device_index(device, 2) == index


@pytest.mark.parametrize("device", ["cpu", "auto", "cuda", "cuda:", "cuda:-1", "cuda:2", "cuda:²"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(UsageError, match=device):
        device_index(device, 2)
