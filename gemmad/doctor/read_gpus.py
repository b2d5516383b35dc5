"""The GPUs as NVML and the kernel's log tell. Runs in a child process: a driver may hang."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from gemmad.doctor.facts import GpuFacts, GpuHealth
from gemmad.supervisor.gpus import find_gpus
from gemmad.supervisor.nvml import load_nvml

T = TypeVar("T")

KERNEL_LOG = Path("/dev/kmsg")
_XID = re.compile(r"NVRM: (Xid .*)")
_LATEST = 5
_RECORD_BYTES = 8192
_WORKER_WORDS = ("gemmad.worker", "gemmad.worker.zygote")


def read_gpus(*, library: Any = None, proc: Path = Path("/proc"), kernel_log: Path = KERNEL_LOG) -> GpuFacts:
    """One look. `library` is pynvml, or what plays it."""
    try:
        library = library or load_nvml()
    except ImportError:
        return GpuFacts(gpus=find_gpus(), xids=read_xids(kernel_log))
    gpus = find_gpus(lambda: library)
    holders = {holder.pid for gpu in gpus.found for holder in gpu.holders if holder.pid}
    driver, cuda, health = _open(library) if gpus.found or gpus.may_come else (None, None, ())
    return GpuFacts(
        gpus=gpus,
        driver=driver,
        cuda=cuda,
        health=health,
        workers=frozenset(pid for pid in holders if is_worker(pid, proc)),
        xids=read_xids(kernel_log),
    )


def is_worker(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process runs gemmad's worker."""
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return any(word in _WORKER_WORDS for word in words)


def read_xids(path: Path = KERNEL_LOG) -> tuple[str, ...] | None:
    """The latest faults of GPUs since boot, as the driver wrote them; None where we may not look."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = [match[1].strip() for record in _records(fd) for match in [_XID.search(record)] if match]
    finally:
        os.close(fd)
    return tuple(found[-_LATEST:])


def _records(fd: int) -> Iterator[str]:
    while True:
        try:
            record = os.read(fd, _RECORD_BYTES)
        except BrokenPipeError:  # the kernel has overwritten some; the next read goes on behind them
            continue
        except OSError:
            return
        if not record:
            return
        yield record.decode(errors="replace")


def _open(library: Any) -> tuple[str | None, tuple[int, int] | None, tuple[GpuHealth, ...]]:
    try:
        library.nvmlInit()
    except library.NVMLError:
        return None, None, ()
    try:
        driver = _try(library, library.nvmlSystemGetDriverVersion)
        cuda = _try(library, library.nvmlSystemGetCudaDriverVersion)
        count = _try(library, library.nvmlDeviceGetCount) or 0
        health = tuple(each for each in (_health(library, index) for index in range(count)) if each is not None)
    finally:
        library.nvmlShutdown()
    words = driver.decode() if isinstance(driver, bytes) else driver
    return words, None if cuda is None else (cuda // 1000, cuda % 1000 // 10), health


def _health(library: Any, index: int) -> GpuHealth | None:
    device = _try(library, lambda: library.nvmlDeviceGetHandleByIndex(index))
    if device is None:
        return None
    remapped = _try(library, lambda: library.nvmlDeviceGetRemappedRows(device))
    persistent = _try(library, lambda: library.nvmlDeviceGetPersistenceMode(device))
    capability = _try(library, lambda: library.nvmlDeviceGetCudaComputeCapability(device))
    errors = _try(
        library,
        lambda: library.nvmlDeviceGetTotalEccErrors(
            device, library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, library.NVML_VOLATILE_ECC
        ),
    )
    return GpuHealth(
        index=index,
        capability=None if capability is None else (int(capability[0]), int(capability[1])),
        uncorrected_errors=errors,
        remap_pending=bool(remapped[2]) if remapped is not None else False,
        remap_failed=bool(remapped[3]) if remapped is not None else False,
        persistent=None if persistent is None else bool(persistent),
        pcie_width=_try(library, lambda: library.nvmlDeviceGetCurrPcieLinkWidth(device)),
        pcie_width_most=_try(library, lambda: library.nvmlDeviceGetMaxPcieLinkWidth(device)),
    )


def _try(library: Any, ask: Callable[[], T]) -> T | None:
    """None for what this driver or this GPU does not tell."""
    try:
        return ask()
    except (library.NVMLError, AttributeError, ValueError):
        return None
