"""The GPUs that NVML shows, and where workers sit. NVML needs no CUDA context, so the daemon stays out of the GPUs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from gemmad.config.schema import WorkersSection
from gemmad.errors import ConfigError
from gemmad.logs import get_logger
from gemmad.supervisor.seat import Seat

log = get_logger("gemmad.supervisor")


class Gpu(Struct, frozen=True, kw_only=True):
    """One GPU as NVML shows it."""

    index: int
    """In the order of the PCI bus, as nvidia-smi counts."""
    uuid: str
    name: str
    pci_bus_id: str
    numa_node: int | None
    total_bytes: int | None
    """None where the GPU shares the host's memory and NVML does not count it."""
    used_bytes: int | None


class Gpus(Struct, frozen=True):
    """What was found, and in words why something was not."""

    found: tuple[Gpu, ...]
    problem: str | None = None


def _load_nvml() -> Any:
    import pynvml

    return pynvml


def find_gpus(load_nvml: Callable[[], Any] = _load_nvml) -> Gpus:
    """Every GPU that answers. A missing library or driver is no error: there are no GPUs, and `problem` says why."""
    try:
        nvml = load_nvml()
    except ImportError as error:
        return Gpus(found=(), problem=f"the package nvidia-ml-py cannot be imported: {error}")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Gpus(found=(), problem=f"no NVIDIA driver answers: {error}")
    try:
        found: list[Gpu] = []
        problems: list[str] = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                found.append(_describe(nvml, index))
            except nvml.NVMLError as error:
                problems.append(f"GPU {index} does not answer: {error}")
        return Gpus(found=tuple(found), problem="; ".join(problems) or None)
    except nvml.NVMLError as error:
        return Gpus(found=(), problem=f"the NVIDIA driver does not count its GPUs: {error}")
    finally:
        nvml.nvmlShutdown()


def _describe(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    pci_bus_id = _text(nvml.nvmlDeviceGetPciInfo(device).busId)
    total_bytes = used_bytes = None
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        total_bytes, used_bytes = int(memory.total), int(memory.used)
    except nvml.NVMLError_NotSupported:
        pass
    return Gpu(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(device)),
        name=_text(nvml.nvmlDeviceGetName(device)),
        pci_bus_id=pci_bus_id,
        numa_node=_numa_node(pci_bus_id),
        total_bytes=total_bytes,
        used_bytes=used_bytes,
    )


def _numa_node(pci_bus_id: str, sysfs: Path = Path("/sys/bus/pci/devices")) -> int | None:
    domain, _, rest = pci_bus_id.lower().partition(":")  # NVML writes the domain with 8 digits, sysfs with 4
    try:
        node = int((sysfs / f"{domain[-4:]}:{rest}" / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def select_gpus(gpus: Sequence[Gpu], wanted: Literal["all"] | Sequence[str]) -> tuple[Gpu, ...]:
    """GPUs by index or UUID (or its beginning, as nvidia-smi takes it). Raises ConfigError naming what is not there."""
    if wanted == "all":
        return tuple(gpus)
    chosen: list[Gpu] = []
    for name in wanted:
        matches = [gpu for gpu in gpus if name == str(gpu.index) or gpu.uuid == name]
        if not matches and name.startswith(("GPU-", "MIG-")):
            matches = [gpu for gpu in gpus if gpu.uuid.startswith(name)]
        if len(matches) != 1:
            known = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus) or "none"
            raise ConfigError(f"workers.gpus: there is no GPU {name!r}; found: {known}")
        if matches[0] not in chosen:
            chosen.append(matches[0])
    return tuple(chosen)


def seats(
    device: Literal["auto", "cpu", "cuda"],
    section: WorkersSection,
    *,
    find: Callable[[], Gpus] = find_gpus,
    cores: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Seat, ...]:
    """Where workers sit: `per_gpu` on each selected GPU, or `count` on the CPU.

    With `gpus = "all"` a CUDA_VISIBLE_DEVICES that the daemon was started with holds. Raises ConfigError when GPUs are
    asked for by name, or with `cuda`, and are not there.
    """
    if device == "cpu":
        return _cpu_seats(section, cores or usable_cores())
    gpus = find()
    if gpus.problem and (gpus.found or device == "cuda"):
        log.warning("GPUs missing", problem=gpus.problem)
    wanted = section.gpus
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted == "all" and visible is not None:
        wanted = tuple(name.strip() for name in visible.split(",") if name.strip() not in {"", "-1", "NoDevFiles"})
    chosen = select_gpus(gpus.found, wanted)
    if chosen:
        return tuple(_gpu_seat(gpu, number, section.per_gpu) for gpu in chosen for number in range(section.per_gpu))
    if device == "cuda":
        raise ConfigError(f"engine.device is cuda, and there is no GPU: {gpus.problem or 'none was selected'}")
    log.info("no GPU, computing on the CPU", problem=gpus.problem)
    return _cpu_seats(section, cores or usable_cores())


def _gpu_seat(gpu: Gpu, number: int, per_gpu: int) -> Seat:
    name = f"gpu{gpu.index}" if per_gpu == 1 else f"gpu{gpu.index}.{number}"
    return Seat(name=name, device="cuda:0", env={"CUDA_VISIBLE_DEVICES": gpu.uuid}, gpu=gpu.uuid)


def _cpu_seats(section: WorkersSection, cores: int) -> tuple[Seat, ...]:
    threads = section.cpu_threads or max(1, cores // section.count)
    env = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads)}
    return tuple(Seat(name=f"cpu{number}", device="cpu", env=env, threads=threads) for number in range(section.count))


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may keep busy: its affinity, or the container's quota where that is less."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2 here, or "max"
        return cores
