"""NVIDIA's management library as a test plays it: GPUs that come, go, get lost and are cut into slices."""

# ruff: noqa: N802, N801 - the names are the library's

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from gemmad.supervisor.nvml import TEMPERATURE_OF_GPU, Nvml, NVMLDevice

GIB = 1 << 30


class NVMLError(Exception):
    """What everything raises."""


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N818
    """No driver is installed."""


class NVMLError_NotSupported(NVMLError):  # noqa: N818
    """A device cannot tell."""


class Device(Struct, kw_only=True):
    """One GPU or slice."""

    uuid: str
    lost: bool = False
    counts: bool = True
    """Whether it tells its memory."""
    used_bytes: int = GIB
    percent: int | None = None
    """How busy it is; None, here and below: it cannot tell."""
    milliwatts: int | None = None
    limit_milliwatts: int | None = None
    celsius: int | None = None
    cpu_words: tuple[int, ...] = (0b1111,)
    processes: tuple[tuple[int, int | None], ...] = ()
    mig: bool | None = None
    """None: it cannot."""
    slices: tuple[Device | None, ...] = ()
    """None: nothing at this place."""


class FakeNvml:
    """As much of pynvml as is used."""

    NVMLError: type[Exception] = NVMLError
    NVMLError_LibraryNotFound: type[Exception] = NVMLError_LibraryNotFound
    NVMLError_NotSupported: type[Exception] = NVMLError_NotSupported

    def __init__(self, *devices: Device) -> None:
        self.devices = list(devices)
        self.fault: Exception | None = None
        """What opening it raises."""
        self.miscounts = False
        self.open = 0

    def nvmlInit(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        assert self.open
        if self.miscounts:
            raise NVMLError("Unknown Error")
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> NVMLDevice:
        if self.devices[index].lost:
            raise NVMLError("GPU is lost")
        return self.devices[index]

    def nvmlDeviceGetUUID(self, device: NVMLDevice, /) -> str | bytes:
        return str(device.uuid)

    def nvmlDeviceGetName(self, device: NVMLDevice, /) -> str | bytes:
        return b"NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, device: NVMLDevice, /) -> Any:
        if not device.counts:
            raise NVMLError_NotSupported("Not Supported")
        return types.SimpleNamespace(total=80 * GIB, used=device.used_bytes)

    def nvmlDeviceGetComputeRunningProcesses(self, device: NVMLDevice, /) -> Sequence[Any]:
        if not device.counts:
            raise NVMLError_NotSupported("Not Supported")
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in device.processes]

    def nvmlDeviceGetUtilizationRates(self, device: NVMLDevice, /) -> Any:
        return types.SimpleNamespace(gpu=_known(device.percent))

    def nvmlDeviceGetPowerUsage(self, device: NVMLDevice, /) -> int:
        return _known(device.milliwatts)

    def nvmlDeviceGetEnforcedPowerLimit(self, device: NVMLDevice, /) -> int:
        return _known(device.limit_milliwatts)

    def nvmlDeviceGetTemperature(self, device: NVMLDevice, sensor: int, /) -> int:
        assert sensor == TEMPERATURE_OF_GPU
        return _known(device.celsius)

    def nvmlDeviceGetCpuAffinity(self, device: NVMLDevice, words: int, /) -> Sequence[int]:
        if not device.cpu_words:
            raise NVMLError_NotSupported("Not Supported")
        return device.cpu_words[:words]  # type: ignore[no-any-return]

    def nvmlDeviceGetMigMode(self, device: NVMLDevice, /) -> Sequence[int]:
        if device.mig is None:
            raise NVMLError_NotSupported("Not Supported")
        return [int(device.mig), int(device.mig)]

    def nvmlDeviceGetMaxMigDeviceCount(self, device: NVMLDevice, /) -> int:
        return len(device.slices)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: NVMLDevice, index: int, /) -> NVMLDevice:
        if device.slices[index] is None:
            raise NVMLError("Not Found")
        return device.slices[index]


def _known(value: int | None) -> int:
    if value is None:
        raise NVMLError_NotSupported("Not Supported")
    return value


def nvml(*uuids: str) -> FakeNvml:
    """GPUs with these UUIDs."""
    return FakeNvml(*(Device(uuid=uuid) for uuid in uuids))


_: type[Nvml] = FakeNvml
