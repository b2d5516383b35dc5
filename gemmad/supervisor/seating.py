"""Where workers sit, as GPUs come and go.

Whether to compute on GPUs or on the CPU is decided once, at the first look. Then a GPU keeps what it was given: the
seats of one that is lost stay, so that its workers wait for it and operators see them wait, and an index that was asked
for goes on meaning the GPU that it meant first, though the driver counts anew when one falls out.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from gemmad.config.schema import WorkersSection
from gemmad.errors import ConfigError
from gemmad.logs import get_logger
from gemmad.supervisor.gpus import Gpu, Gpus
from gemmad.supervisor.seat import Seat

GPU_THREADS = 8
"""Threads of torch in a GPU worker at most: it computes next to nothing on the CPU."""
_INDEX = re.compile(r"\d+(:\d+)?")
_HIDDEN = frozenset({"", "-1", "NoDevFiles"})
"""What CUDA_VISIBLE_DEVICES hides GPUs with."""

log = get_logger("gemmad.supervisor")


class Seating:
    """Turns looks at the GPUs into seats. `env` are variables of every worker; `cores` and `cpus` are how many
    processors the daemon may keep busy, and which it may run on."""

    def __init__(
        self,
        device: Literal["auto", "cpu", "cuda"],
        section: WorkersSection,
        *,
        env: Mapping[str, str] | None = None,
        environ: Mapping[str, str] = os.environ,
        cores: int | None = None,
        cpus: frozenset[int] | None = None,
    ) -> None:
        self._device = device
        self._section = section
        self._env = dict(env or {})
        self._environ = environ
        self._cores = cores or usable_cores()
        self._cpus = cpus or frozenset(os.sched_getaffinity(0))
        self._meant: dict[str, frozenset[str]] = {}
        """What each name in `workers.gpus` turned out to be, by UUID; a name of a GPU means all slices that it has."""
        self._names: dict[str, str] = {}
        """Of each GPU that has a seat, by UUID: gpu0, gpu0:1."""
        self._parents: dict[str, str] = {}
        """Of each slice that has a seat."""
        self._seats: dict[str, Seat] = {}
        """Of GPUs that were there at some look, by name."""

    @property
    def on_gpus(self) -> bool:
        """Whether there is anything to look for."""
        return self._device != "cpu"

    def settle(self, gpus: Gpus) -> tuple[Seat, ...]:
        """The seats after one more look. Raises ConfigError for settings that no GPU that may come can meet."""
        wanted = wanted_gpus(self._section, self._environ)
        if self._device == "auto":
            explicit = self._section.gpus != "all"
            hopeless = not gpus.found and not gpus.may_come and not explicit
            self._device = "cpu" if hopeless or wanted == () else "cuda"
            if not self.on_gpus:
                log.info("no GPU, computing on the CPU", problem=gpus.problem)
        if not self.on_gpus:
            return cpu_seats(self._section, self._cores, self._env)
        if wanted == ():
            raise ConfigError("engine.device is cuda, and CUDA_VISIBLE_DEVICES hides every GPU")
        self._forget_slices(gpus)
        self._seats |= {seat.name: seat for gpu in self._select(gpus, wanted) for seat in self._sit_on(gpu, gpus)}
        waiting = {seat.name: seat for seat in self._seats_for_missing(gpus, wanted)}
        seats = waiting | self._seats
        return tuple(seats[name] for name in sorted(seats, key=_by_number))

    def _select(self, gpus: Gpus, wanted: Literal["all"] | tuple[str, ...]) -> list[Gpu]:
        if wanted == "all":
            return list(gpus.found)
        uuids: set[str] = set()
        for name in wanted:
            if name not in self._meant and (matches := matching(gpus, name)):
                of_slice = ":" in name or name.startswith("MIG-")
                self._meant[name] = frozenset(gpu.uuid if of_slice else gpu.parent_uuid or gpu.uuid for gpu in matches)
            uuids |= self._meant.get(name, frozenset())
        return [gpu for gpu in gpus.found if gpu.uuid in uuids or gpu.parent_uuid in uuids]

    def _sit_on(self, gpu: Gpu, gpus: Gpus) -> list[Seat]:
        if gpu.uuid not in self._names:
            self._names[gpu.uuid] = self._new_name(gpu, gpus)
        if gpu.parent_uuid is not None:
            self._parents[gpu.uuid] = gpu.parent_uuid
        name, per_gpu = self._names[gpu.uuid], self._section.per_gpu
        cpus = tuple(cpu for cpu in gpu.cpus if cpu in self._cpus)
        threads = max(1, min(GPU_THREADS, len(cpus) or self._cores, self._cores) // per_gpu)
        env = self._env | {"CUDA_VISIBLE_DEVICES": gpu.uuid}
        if "OMP_NUM_THREADS" not in self._environ:
            env["OMP_NUM_THREADS"] = str(threads)
        return [
            Seat(_numbered(name, number, per_gpu), "cuda:0", env, gpu=gpu.uuid, cpus=cpus) for number in range(per_gpu)
        ]

    def _new_name(self, gpu: Gpu, gpus: Gpus) -> str:
        """By its index, unless another one that is there has that name; one that is lost leaves it and its seats."""
        name, number = f"gpu{gpu.label}", gpu.index
        while (owner := self._owner(name)) is not None and gpus.find(owner) is not None:
            number += 1
            name = f"gpu{number}" if gpu.mig is None else f"gpu{number}:{gpu.mig}"
        if owner is not None:
            self._forget(owner)
        return name

    def _forget_slices(self, gpus: Gpus) -> None:
        """A slice that is not there while others of its GPU are was taken away on purpose: it will not come back."""
        cut = {gpu.parent_uuid for gpu in gpus.found}
        for uuid, parent in list(self._parents.items()):
            if parent in cut and gpus.find(uuid) is None:
                self._forget(uuid)

    def _forget(self, uuid: str) -> None:
        self._names.pop(uuid, None)
        self._parents.pop(uuid, None)
        self._seats = {name: seat for name, seat in self._seats.items() if seat.gpu != uuid}

    def _owner(self, name: str) -> str | None:
        return next((uuid for uuid, taken in self._names.items() if taken == name), None)

    def _seats_for_missing(self, gpus: Gpus, wanted: Literal["all"] | tuple[str, ...]) -> list[Seat]:
        """One for each name that nothing answers to yet, so that a worker is seen to wait for it."""
        missing = [] if self._seats else ["0"]
        if wanted != "all":
            missing = [name for name in wanted if name not in self._meant]
        return [
            Seat(_numbered(_seat_name(name), number, self._section.per_gpu), "cuda:0", self._env, gpu=name)
            for name in missing
            for number in range(self._section.per_gpu)
        ]


def wanted_gpus(section: WorkersSection, environ: Mapping[str, str] = os.environ) -> Literal["all"] | tuple[str, ...]:
    """`workers.gpus`, or where that is "all" what the daemon's own CUDA_VISIBLE_DEVICES leaves. Raises ConfigError for
    what cannot name a GPU."""
    wanted, key = section.gpus, "workers.gpus"
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted == "all" and visible is not None:
        wanted, key = tuple(name.strip() for name in visible.split(",")), "CUDA_VISIBLE_DEVICES"
        wanted = tuple(name for name in wanted if name not in _HIDDEN)
    for name in () if wanted == "all" else wanted:
        if not _INDEX.fullmatch(name) and not name.startswith(("GPU-", "MIG-")):
            raise ConfigError(f"{key}: {name!r} is neither an index nor a UUID of a GPU")
    return wanted


def matching(gpus: Gpus, name: str) -> tuple[Gpu, ...]:
    """What an index, a UUID or its beginning names: a GPU, a slice, or all slices of one GPU; nothing if it is not
    there. Raises ConfigError when it could be several."""
    exact = tuple(gpu for gpu in gpus.found if name in {gpu.label, gpu.uuid, gpu.parent_uuid} or name == str(gpu.index))
    if exact or _INDEX.fullmatch(name):
        return exact
    close = tuple(gpu for gpu in gpus.found if gpu.uuid.startswith(name) or (gpu.parent_uuid or "").startswith(name))
    if len({gpu.uuid if gpu.uuid.startswith(name) else gpu.parent_uuid for gpu in close}) > 1:
        raise ConfigError(f"workers.gpus: {name!r} is the beginning of several; found: {gpus}")
    return close


def selected(gpus: Gpus, section: WorkersSection, *, environ: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """GPUs that the settings select, as of this look. Raises ConfigError naming what is not there."""
    wanted = wanted_gpus(section, environ)
    if wanted == "all":
        return gpus.found
    chosen: dict[str, Gpu] = {}
    for name in wanted:
        matches = matching(gpus, name)
        if not matches:
            raise ConfigError(f"workers.gpus: there is no GPU {name!r}; found: {gpus}")
        chosen |= {gpu.uuid: gpu for gpu in matches}
    return tuple(chosen.values())


def cpu_seats(section: WorkersSection, cores: int, env: Mapping[str, str]) -> tuple[Seat, ...]:
    """`workers.count` of them, which share the cores."""
    threads = section.cpu_threads or max(1, cores // section.count)
    variables = dict(env) | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads)}
    return tuple(Seat(f"cpu{number}", "cpu", variables, threads=threads) for number in range(section.count))


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may keep busy: its affinity, or the container's quota where that is less."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2 here, or "max"
        return cores


def _numbered(name: str, number: int, per_gpu: int) -> str:
    return name if per_gpu == 1 else f"{name}.{number}"


def _seat_name(wanted: str) -> str:
    return f"gpu{wanted}" if _INDEX.fullmatch(wanted) else wanted


def _by_number(name: str) -> list[tuple[int, str]]:
    """gpu2 before gpu10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
