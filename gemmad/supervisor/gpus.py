"""The GPUs and MIG slices that NVML shows at one look. Nothing is kept between looks: devices come and go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from gemmad.supervisor.nvml import Nvml, NVMLDevice, as_text, in_mig_mode, load_nvml, slices_of

NVIDIA = "0x10de"
DISPLAY_CLASS = "0x03"
"""The PCI class of graphics cards and of accelerators without an output."""
PCI_DEVICES = Path("/sys/bus/pci/devices")


class Holder(Struct, frozen=True):
    """A process that holds memory of a GPU."""

    pid: int
    """0 where another container hides it."""
    name: str
    used_bytes: int | None

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" + (f" {in_gib(self.used_bytes)}" if self.used_bytes else "")


class Gpu(Struct, frozen=True, kw_only=True):
    """One GPU, or one slice of a GPU in MIG mode, which then cannot be used as a whole."""

    index: int
    """Of the GPU, in the order of the PCI bus, as nvidia-smi counts."""
    mig: int | None = None
    """Of a slice, among those of its GPU."""
    uuid: str
    """What CUDA_VISIBLE_DEVICES takes."""
    parent_uuid: str | None = None
    """Of a slice: its GPU's."""
    name: str
    total_bytes: int | None = None
    """None where the GPU shares the host's memory and NVML does not count it."""
    used_bytes: int | None = None
    cpus: tuple[int, ...] = ()
    """The processors of its NUMA node; none where nobody knows."""
    holders: tuple[Holder, ...] = ()

    @property
    def label(self) -> str:
        """0, or 0:1 for a slice."""
        return str(self.index) if self.mig is None else f"{self.index}:{self.mig}"

    @property
    def free_bytes(self) -> int | None:
        """None where it is not counted."""
        if self.total_bytes is None or self.used_bytes is None:
            return None
        return self.total_bytes - self.used_bytes


class Gpus(Struct, frozen=True):
    """What one look found, and in words why something was not."""

    found: tuple[Gpu, ...]
    problem: str | None = None
    may_come: bool = False
    """Where none was found: whether there is a driver and a card, so that one may still turn up."""

    def find(self, uuid: str) -> Gpu | None:
        """The one with this UUID."""
        return next((gpu for gpu in self.found if gpu.uuid == uuid), None)

    def __str__(self) -> str:
        return ", ".join(f"{gpu.label} ({gpu.uuid})" for gpu in self.found) or "none"


def find_gpus(load: Callable[[], Nvml] = load_nvml, *, pci_devices: Path = PCI_DEVICES) -> Gpus:
    """Every GPU and slice that answers. A missing library or driver is no error: `problem` says why there are none.

    It may take its time, or never return while the driver hangs: call it in a thread that nobody waits for at the end.
    """
    try:
        nvml = load()
    except ImportError as error:
        return Gpus((), f"the package nvidia-ml-py cannot be imported: {error}")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError_LibraryNotFound as error:
        return Gpus((), f"no NVIDIA driver is installed: {error}")
    except nvml.NVMLError as error:
        return Gpus((), f"no NVIDIA driver answers: {error}", may_come=has_card(pci_devices))
    try:
        problems: list[str] = []
        found = tuple(gpu for index in range(nvml.nvmlDeviceGetCount()) for gpu in _describe(nvml, index, problems))
    except nvml.NVMLError as error:
        return Gpus((), f"the NVIDIA driver does not count its GPUs: {error}", may_come=has_card(pci_devices))
    finally:
        nvml.nvmlShutdown()
    may_come = bool(problems) or (not found and has_card(pci_devices))
    return Gpus(found, "; ".join(problems) or None, may_come)


def has_card(pci_devices: Path = PCI_DEVICES) -> bool:
    """Whether an NVIDIA card sits on the PCI bus, with or without its driver."""

    def read(path: Path) -> str:
        try:
            return path.read_text().strip()
        except OSError:
            return ""

    return any(
        read(vendor) == NVIDIA and read(vendor.with_name("class")).startswith(DISPLAY_CLASS)
        for vendor in pci_devices.glob("*/vendor")
    )


def in_gib(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / (1 << 30):.1f} GiB"


def _describe(nvml: Nvml, index: int, problems: list[str]) -> Iterator[Gpu]:
    """The GPU, or its slices; none, and a problem more, if it does not answer."""
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        if not in_mig_mode(nvml, device):
            yield _read(nvml, device, index=index, cpus=_cpus(nvml, device))
            return
        slices = list(_slices(nvml, device, index))
        if not slices:
            problems.append(f"GPU {index} is in MIG mode and has no slices")
        yield from slices
    except nvml.NVMLError as error:
        problems.append(f"GPU {index} does not answer: {error}")


def _slices(nvml: Nvml, device: NVMLDevice, index: int) -> Iterator[Gpu]:
    parent_uuid = as_text(nvml.nvmlDeviceGetUUID(device))
    cpus = _cpus(nvml, device)
    for place, part in slices_of(nvml, device):
        yield _read(nvml, part, index=index, mig=place, parent_uuid=parent_uuid, cpus=cpus)


def _read(
    nvml: Nvml,
    device: NVMLDevice,
    *,
    index: int,
    cpus: tuple[int, ...],
    mig: int | None = None,
    parent_uuid: str | None = None,
) -> Gpu:
    total_bytes = used_bytes = None
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        total_bytes, used_bytes = int(memory.total), int(memory.used)
    except nvml.NVMLError_NotSupported:
        pass
    return Gpu(
        index=index,
        mig=mig,
        uuid=as_text(nvml.nvmlDeviceGetUUID(device)),
        parent_uuid=parent_uuid,
        name=as_text(nvml.nvmlDeviceGetName(device)),
        total_bytes=total_bytes,
        used_bytes=used_bytes,
        cpus=cpus,
        holders=_holders(nvml, device),
    )


def _cpus(nvml: Nvml, device: NVMLDevice) -> tuple[int, ...]:
    try:
        words = nvml.nvmlDeviceGetCpuAffinity(device, ((os.cpu_count() or 1) + 63) // 64)
    except nvml.NVMLError:
        return ()
    return tuple(64 * number + bit for number, word in enumerate(words) for bit in range(64) if int(word) >> bit & 1)


def _holders(nvml: Nvml, device: NVMLDevice) -> tuple[Holder, ...]:
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(device)
    except nvml.NVMLError:
        return ()
    return tuple(Holder(each.pid, _process_name(each.pid), each.usedGpuMemory) for each in processes)


def _process_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "a process of another container"
