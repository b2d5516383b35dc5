"""As much of NVIDIA's management library as is used. It needs no CUDA context, so the daemon stays out of the GPUs."""

# ruff: noqa: N802 - the names are the library's

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

NVMLDevice = Any
"""A handle: a GPU, or a MIG slice of one."""
TEMPERATURE_OF_GPU = 0
"""The sensor that every GPU has."""


class Nvml(Protocol):
    """What `pynvml` has, and what a test plays. Everything may raise NVMLError, at any time."""

    NVMLError: type[Exception]
    NVMLError_LibraryNotFound: type[Exception]
    NVMLError_NotSupported: type[Exception]

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int: ...

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> NVMLDevice: ...

    def nvmlDeviceGetUUID(self, device: NVMLDevice, /) -> str | bytes: ...

    def nvmlDeviceGetName(self, device: NVMLDevice, /) -> str | bytes: ...

    def nvmlDeviceGetMemoryInfo(self, device: NVMLDevice, /) -> Any:
        """`total` and `used` bytes."""

    def nvmlDeviceGetComputeRunningProcesses(self, device: NVMLDevice, /) -> Sequence[Any]:
        """Each with `pid` and `usedGpuMemory`, which may be None."""

    def nvmlDeviceGetUtilizationRates(self, device: NVMLDevice, /) -> Any:
        """`gpu`: the share of the last moment in which a kernel ran, in percent."""

    def nvmlDeviceGetPowerUsage(self, device: NVMLDevice, /) -> int:
        """In milliwatts."""

    def nvmlDeviceGetEnforcedPowerLimit(self, device: NVMLDevice, /) -> int:
        """In milliwatts."""

    def nvmlDeviceGetTemperature(self, device: NVMLDevice, sensor: int, /) -> int:
        """In degrees Celsius."""

    def nvmlDeviceGetCpuAffinity(self, device: NVMLDevice, words: int, /) -> Sequence[int]:
        """Bit n of word m is processor 64 · m + n."""

    def nvmlDeviceGetMigMode(self, device: NVMLDevice, /) -> Sequence[int]:
        """Whether it is on, and whether it will be."""

    def nvmlDeviceGetMaxMigDeviceCount(self, device: NVMLDevice, /) -> int: ...

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: NVMLDevice, index: int, /) -> NVMLDevice: ...


def load_nvml() -> Nvml:
    """Raises ImportError where the package is missing; the driver's own library is looked for by `nvmlInit`."""
    import pynvml

    return cast("Nvml", pynvml)


def in_mig_mode(nvml: Nvml, device: NVMLDevice) -> bool:
    """Whether it is cut into slices, or ready to be; as a whole it computes nothing then."""
    try:
        return bool(nvml.nvmlDeviceGetMigMode(device)[0])
    except nvml.NVMLError:  # a GPU without it
        return False


def slices_of(nvml: Nvml, device: NVMLDevice) -> Iterator[tuple[int, NVMLDevice]]:
    """Its MIG slices, each with its place among them. Raises NVMLError."""
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, place)
        except nvml.NVMLError:  # nothing at this place
            continue
        yield place, part


def as_text(value: str | bytes) -> str:
    """What older versions of the library tell as bytes."""
    return value.decode() if isinstance(value, bytes) else value
