"""What the checks look at, gathered before any of them runs: values, no handles.

What is read by a child process has a `problem` where there was no answer in time; such a part of the machine hangs, and
that is a finding of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from msgspec import Struct

from gemmad.api.overview import Overview
from gemmad.config.schema import Config
from gemmad.planning.shape import ModelShape
from gemmad.supervisor.gpus import Gpus

T = TypeVar("T")


class Told(Struct, Generic[T], frozen=True):
    """An answer, or why there is none."""

    value: T | None = None
    problem: str | None = None


class GpuHealth(Struct, frozen=True, kw_only=True):
    """One GPU beyond what `Gpu` has; None: the driver does not tell."""

    index: int
    capability: tuple[int, int] | None = None
    """Compute capability."""
    uncorrected_errors: int | None = None
    """Of ECC, since the driver was loaded."""
    remap_pending: bool = False
    """Rows with errors are replaced at the next reset."""
    remap_failed: bool = False
    """There are no rows left to replace them with."""
    persistent: bool | None = None
    pcie_width: int | None = None
    pcie_width_most: int | None = None


class GpuFacts(Struct, frozen=True, kw_only=True):
    """What NVML tells."""

    gpus: Gpus
    driver: str | None = None
    cuda: tuple[int, int] | None = None
    """The newest that the driver speaks."""
    health: tuple[GpuHealth, ...] = ()
    workers: frozenset[int] = frozenset()
    """Processes that hold memory of a GPU and run gemmad's worker."""
    xids: tuple[str, ...] | None = None
    """What the kernel's log has of faults of GPUs, the latest last; None: we may not read it."""

    @property
    def least_capability(self) -> tuple[int, int] | None:
        """What all of them compute that tell; None where none does."""
        return min((each.capability for each in self.health if each.capability is not None), default=None)


class TorchFacts(Struct, frozen=True, kw_only=True):
    """What the interpreter that workers run in told of itself."""

    where: str
    """Which interpreter, in words."""
    torch: str | None = None
    cuda: str | None = None
    """What it was built for."""
    python: str = ""
    arches: tuple[str, ...] = ()
    """`sm_90`, `compute_90`; none where CUDA does not begin."""
    cuda_problem: str | None = None
    """Why CUDA does not begin in it."""
    problem: str | None = None
    """Why no worker can run in it."""


class Limit(Struct, frozen=True):
    """Of a resource; None is unlimited."""

    soft: int | None
    hard: int | None


class HostFacts(Struct, frozen=True, kw_only=True):
    """This machine, or the container that it looks like."""

    cores: int
    usable_cores: int
    numa_nodes: int
    memory_bytes: int
    available_bytes: int | None
    cgroup_limit_bytes: int | None
    """The least of those that hold for us."""
    swap_bytes: int = 0
    swap_used_bytes: int = 0
    open_files: Limit
    locked_bytes: Limit
    clock_synchronised: bool | None = None
    wall_seconds: float
    """Since the epoch."""
    first_port: int = 1024
    """The lowest that anybody may listen on."""


class Folder(Struct, frozen=True, kw_only=True):
    """One of gemmad's, or where it would be made."""

    kind: str
    """state or cache."""
    path: str
    exists: bool
    writable: bool
    """For whoever asks; of one that is not there, whether it could be made."""
    read_only: bool = False
    """The file system."""
    free_bytes: int | None = None
    owner: str = ""


class ModelFacts(Struct, frozen=True, kw_only=True):
    """The checkpoint's folder, as far as that is quick: contents of weights are not read."""

    folder: str
    exists: bool
    closed: bool = False
    """We may not look into it."""
    faults: tuple[str, ...] = ()
    """What is missing, cut or different from what was pulled."""
    bytes: int = 0
    files: int = 0
    pulled: str | None = None
    """Repository and commit."""
    hashed: int = 0
    """Files whose checksum was compared."""
    unfinished: bool = False
    """A pull of it goes on, or was cut."""
    text_problem: str | None = None
    """Why tokenizer and chat template cannot be used."""
    shape: ModelShape | None = None


class PortHolder(Struct, frozen=True, kw_only=True):
    """Somebody who listens on a port."""

    address: str
    uid: int
    pid: int | None = None
    """None: the kernel does not tell us."""
    name: str | None = None


class UnitFacts(Struct, frozen=True, kw_only=True):
    """A unit of systemd."""

    of_user: bool
    properties: dict[str, str]
    """As `systemctl show` has them."""
    lingers: bool | None = None
    """Of a user's: whether it runs without them being logged in."""

    def get(self, name: str) -> str:
        """Empty for what systemd does not have."""
        return self.properties.get(name, "")


class ServiceFacts(Struct, frozen=True, kw_only=True):
    """What systemd says."""

    runs: bool
    """Whether systemd runs this machine."""
    units: tuple[UnitFacts, ...] = ()
    problem: str | None = None


class KeyFileFacts(Struct, frozen=True, kw_only=True):
    """A file of API keys; nothing of the keys."""

    path: str
    mode: int | None
    """None: it is not there, or we may not look."""
    keys: int | None = None


class SettingsFacts(Struct, frozen=True, kw_only=True):
    """What the daemon would read."""

    path: str | None
    config: Config | None
    errors: tuple[str, ...] = ()
    closed: bool = False
    """We may not read it."""
    key_files: tuple[KeyFileFacts, ...] = ()


class DaemonFacts(Struct, frozen=True, kw_only=True):
    """The daemon that the control socket leads to."""

    socket: str
    """Where it is, or was looked for."""
    overview: Overview | None = None
    silent: str | None = None
    """Somebody has the socket and does not answer, in words."""
    closed: bool = False
    """We may not connect."""
    left: bool = False
    """The socket's file is there, and nobody behind it."""
    is_warden: bool = False
    open_files: Limit | None = None
    """The daemon's own."""
    uid: int | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything."""

    version: str
    uid: int
    parts: Mapping[str, str]
    """Versions, for people."""
    settings: SettingsFacts
    daemon: DaemonFacts
    host: HostFacts
    gpus: Told[GpuFacts]
    torch: Told[TorchFacts]
    folders: Told[tuple[Folder, ...]]
    model: Told[ModelFacts]
    ports: Told[tuple[PortHolder, ...]]
    service: Told[ServiceFacts]
