"""Checks of driver, CUDA, torch and GPUs. Each takes facts and returns what it found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gemmad.api.overview import Overview
from gemmad.config.schema import MemorySection
from gemmad.doctor.facts import GpuFacts, GpuHealth, Told, TorchFacts
from gemmad.doctor.finding import Finding, fail, ok, skip, warn
from gemmad.planning.sizes import format_bytes
from gemmad.supervisor.gpus import Gpu, Holder

GROUP = "GPU"
LEAST_DRIVER: Mapping[int, int] = {11: 450, 12: 525, 13: 580}
"""By CUDA's major version the oldest driver that runs programs built for any minor version of it. (NVIDIA, CUDA
Compatibility, "Minor Version Compatibility")"""
_FABRIC = re.compile(r"not yet initialized|\b802\b")


def check_driver(gpus: Told[GpuFacts], device: str) -> Finding:  # noqa: PLR0911 - each is a fault of its own
    """`device` as in `engine.device`."""
    name = "driver"
    if device == "cpu":
        return skip(GROUP, name, "workers compute on the CPU (engine.device)")
    facts = gpus.value
    if facts is None:
        return fail(
            GROUP, name, f"the driver does not tell: {gpus.problem}",
            remedy="a GPU or its driver hangs: `dmesg` may have NVRM and Xid; a reset of the GPU or a reboot ends it",
        )  # fmt: skip
    found = facts.gpus
    if found.found:
        cuda = "" if facts.cuda is None else f", speaks CUDA {facts.cuda[0]}.{facts.cuda[1]}"
        words = f"{facts.driver or 'of an unknown version'}{cuda}, {len(found.found)} GPUs or slices"
        if found.problem is None:
            return ok(GROUP, name, words)
        return warn(GROUP, name, f"{words}; {found.problem}", remedy="`nvidia-smi` and `dmesg` tell more")
    if found.may_come:
        return fail(
            GROUP, name, found.problem or "there is a card, and the driver shows no GPU",
            remedy="install NVIDIA's driver, or after an upgrade of it reboot; `nvidia-smi` has to work first",
        )  # fmt: skip
    if device == "cuda":
        return fail(
            GROUP, name, f"engine.device is cuda, and there is no GPU: {found.problem or 'none is found'}",
            remedy="give this machine or container a GPU (`--gpus all`), or set engine.device to cpu",
        )  # fmt: skip
    return skip(GROUP, name, f"no GPU, so workers compute on the CPU ({found.problem or 'none is found'})")


def check_torch(torch: Told[TorchFacts], *, has_gpu: bool) -> Finding:
    """Whether a worker can run at all."""
    name, facts = "torch", torch.value
    if facts is None:
        return warn(
            GROUP, name, f"workers' Python gave {torch.problem}",
            remedy="the first import from a cold disk may take longer: run this again; if it stays so, a disk or a "
            "driver hangs",
        )  # fmt: skip
    if facts.problem is not None:
        return fail(
            GROUP, name, f"no worker can run in {facts.where}: {facts.problem}",
            remedy="`gemmad engine install cuda` (or cpu) makes an environment that can; see `gemmad engine list`",
        )  # fmt: skip
    words = f"{facts.torch} for {'the CPU' if facts.cuda is None else f'CUDA {facts.cuda}'}, in {facts.where}"
    if has_gpu and facts.cuda is None:
        return fail(
            GROUP, name, f"{words}: there is a GPU, and this torch cannot use it",
            remedy="`gemmad engine install cuda`, or pip install a torch for CUDA",
        )  # fmt: skip
    return ok(GROUP, name, words)


def check_cuda(gpus: GpuFacts | None, torch: TorchFacts | None) -> Finding:
    """Whether this driver runs this torch, on these GPUs."""
    name = "CUDA"
    if gpus is None or not gpus.gpus.found or torch is None or torch.problem is not None or torch.cuda is None:
        return skip(GROUP, name, "nothing to compare: it takes a GPU and a torch for CUDA")
    major = int(torch.cuda.split(".")[0])
    if gpus.cuda is not None and gpus.cuda[0] < major:
        least = f"{LEAST_DRIVER[major]} or newer" if major in LEAST_DRIVER else "a newer one"
        return fail(
            GROUP, name,
            f"driver {gpus.driver} speaks CUDA {gpus.cuda[0]}.{gpus.cuda[1]}, torch is built for {torch.cuda}",
            remedy=f"upgrade the driver ({least}), or have a torch for CUDA {gpus.cuda[0]} (`gemmad engine add`)",
        )  # fmt: skip
    if torch.cuda_problem is not None:
        return fail(GROUP, name, f"it does not begin: {torch.cuda_problem}", remedy=_cuda_remedy(torch.cuda_problem))
    unknown = sorted(
        f"GPU {each.index} (sm_{each.capability[0]}{each.capability[1]})"
        for each in gpus.health
        if each.capability is not None and torch.arches and not _runs_on(torch.arches, each.capability)
    )
    if unknown:
        return fail(
            GROUP, name, f"this torch has no kernels for {', '.join(unknown)}; it has {' '.join(torch.arches)}",
            remedy="take a torch that does (`gemmad engine add PYTHON`), or leave that GPU out with workers.gpus",
        )  # fmt: skip
    return ok(GROUP, name, f"torch for {torch.cuda} runs on driver {gpus.driver}")


def check_memory(
    gpus: GpuFacts | None, overview: Overview | None, section: MemorySection, wanted: frozenset[str]
) -> Iterator[Finding]:
    """Who holds what, for each GPU; `wanted` are UUIDs of those that workers are to use."""
    for gpu in () if gpus is None else gpus.gpus.found:
        assert gpus is not None
        yield _memory_of(gpu, gpus, overview, section, wanted=gpu.uuid in wanted)


def check_health(gpus: GpuFacts | None) -> Iterator[Finding]:
    """Memory errors, persistence, the link, and what the kernel's log has."""
    if gpus is None:
        return
    for each in gpus.health:
        yield _health_of(each)
    if gpus.xids:
        yield warn(
            GROUP, "Xid", f"the driver has reported {len(gpus.xids)} faults since boot, at last: {gpus.xids[-1]}",
            remedy="NVIDIA's list of Xid errors tells what each number means; 48, 63, 64, 79, 94 and 95 are hardware's",
            details=gpus.xids[:-1],
        )  # fmt: skip


def _cuda_remedy(problem: str) -> str:
    if _FABRIC.search(problem):
        return "GPUs with NVSwitch need their fabric manager: `systemctl start nvidia-fabricmanager`"
    return "`nvidia-smi` has to work for this user, and /dev/nvidia-uvm has to be there (`nvidia-modprobe -u -c 0`)"


def _runs_on(arches: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Machine code runs on the same major version from its minor version on, PTX on all that are newer."""
    for arch in arches:
        kind, _, number = arch.partition("_")
        digits = re.match(r"\d+", number)
        if digits is None:
            continue
        built = divmod(int(digits[0]), 10)
        if kind == "compute" and built <= capability:
            return True
        if kind == "sm" and built[0] == capability[0] and built[1] <= capability[1]:
            return True
    return False


def _memory_of(gpu: Gpu, gpus: GpuFacts, overview: Overview | None, section: MemorySection, *, wanted: bool) -> Finding:
    name = f"memory {gpu.label}"
    if gpu.total_bytes is None or gpu.free_bytes is None:
        return skip(GROUP, name, f"{gpu.name} shares the host's memory, and nobody counts it")
    ours = _own_workers(overview)
    held = [_holder_words(holder, ours, gpus.workers) for holder in gpu.holders]
    words = f"{gpu.name}, {format_bytes(gpu.free_bytes)} of {format_bytes(gpu.total_bytes)} free"
    words += f"; held by {', '.join(held)}" if held else ""
    lost = [holder for holder in gpu.holders if holder.pid in gpus.workers and holder.pid not in ours]
    if overview is None and lost:
        pids = " ".join(str(holder.pid) for holder in lost)
        return fail(
            GROUP, name, f"{words}; no daemon that we reach has them",
            remedy=f"another user's daemon, or left-overs of one: `ps -fp {pids}` tells",
        )  # fmt: skip
    used_here = any(holder.pid in ours for holder in gpu.holders)
    needed = int(gpu.total_bytes * section.fraction)
    if wanted and not used_here and gpu.free_bytes < needed:
        return fail(
            GROUP, name, f"{words}; workers may take {format_bytes(needed)}",
            remedy="stop who holds it, leave this GPU out with workers.gpus, or lower memory.fraction",
        )  # fmt: skip
    return ok(GROUP, name, words)


def _own_workers(overview: Overview | None) -> dict[int, str]:
    workers = () if overview is None else overview.workers
    seats = [each for worker in workers for each in (worker, worker.successor) if each is not None]
    return {seat.pid: seat.name for seat in seats if seat.pid is not None}


def _holder_words(holder: Holder, ours: Mapping[int, str], workers: frozenset[int]) -> str:
    used = f" {format_bytes(holder.used_bytes)}" if holder.used_bytes else ""
    if holder.pid in ours:
        return f"our worker {ours[holder.pid]} (pid {holder.pid}){used}"
    name = "a gemmad worker" if holder.pid in workers else holder.name
    return f"{name} (pid {holder.pid}){used}"


def _health_of(gpu: GpuHealth) -> Finding:
    name = f"health {gpu.index}"
    if gpu.remap_failed:
        return fail(
            GROUP, name, "its memory has faults, and no rows to replace them with are left",
            remedy="the GPU has to be replaced; leave it out with workers.gpus until then",
        )  # fmt: skip
    if gpu.remap_pending or gpu.uncorrected_errors:
        told = f"{gpu.uncorrected_errors or 0} uncorrected memory errors since the driver was loaded"
        return warn(
            GROUP, name, told + (", and rows wait to be replaced" if gpu.remap_pending else ""),
            remedy="reset it when nobody uses it (`nvidia-smi --gpu-reset`), or reboot; if they come back, replace it",
        )  # fmt: skip
    if gpu.pcie_width and gpu.pcie_width_most and gpu.pcie_width < gpu.pcie_width_most:
        return warn(
            GROUP, name, f"its PCIe link has {gpu.pcie_width} lanes of {gpu.pcie_width_most}; weights load slower",
            remedy="a slot with fewer lanes, a riser or a card that is not seated well: `lspci -vv` has LnkSta",
        )  # fmt: skip
    if gpu.persistent is False:
        return warn(
            GROUP, name, "persistence is off: each first use of the GPU waits for the driver",
            remedy="`systemctl enable --now nvidia-persistenced`, or `nvidia-smi -pm 1`",
        )  # fmt: skip
    link = f", PCIe x{gpu.pcie_width}" if gpu.pcie_width else ""
    return ok(GROUP, name, f"no memory errors{link}" if gpu.uncorrected_errors is not None else f"nothing known{link}")
