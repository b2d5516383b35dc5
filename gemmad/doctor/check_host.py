"""Checks of the machine: memory, limits, processors, disks, clock, versions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from gemmad.api.overview import Overview
from gemmad.config.schema import Config
from gemmad.doctor.facts import DaemonFacts, Folder, HostFacts, Limit, ModelFacts, Told
from gemmad.doctor.finding import Finding, fail, ok, skip, warn
from gemmad.planning.shape import PUBLISHED, published_shape
from gemmad.planning.sizes import format_bytes

GROUP = "Host"
GPU_WORKER_BYTES = 4 << 30
"""Of the host's memory, for Python, torch, CUDA and the buffers that weights go through."""
SPARE_FILES = 256
LEAST_STATE_BYTES = 1 << 30
_OLDEST_SECONDS = 1_700_000_000
"""Before this gemmad was written."""


def check_memory(host: HostFacts, *, needed_bytes: int | None, workers_run: bool) -> Finding:
    """`needed_bytes` is what workers take of the host; None: nobody knows."""
    name = "memory"
    limit = host.cgroup_limit_bytes
    words = f"{format_bytes(host.memory_bytes)}"
    words += "" if host.available_bytes is None else f", {format_bytes(host.available_bytes)} available"
    words += "" if limit is None else f", limited to {format_bytes(limit)} by its cgroup"
    most = min(host.memory_bytes, limit or host.memory_bytes)
    if needed_bytes is not None and needed_bytes > most:
        return fail(
            GROUP, name, f"{words}; workers need about {format_bytes(needed_bytes)}",
            remedy="a larger limit (MemoryMax=, --memory), a smaller model, or fewer workers",
        )  # fmt: skip
    short = needed_bytes is not None and host.available_bytes is not None and needed_bytes > host.available_bytes
    if short and not workers_run:
        return warn(
            GROUP, name, f"{words}; workers need about {format_bytes(needed_bytes or 0)}",
            remedy="end what else takes memory before the daemon starts",
        )  # fmt: skip
    return ok(GROUP, name, words)


def check_swap(host: HostFacts) -> Finding:
    """A worker in swap answers in minutes."""
    name = "swap"
    if not host.swap_bytes:
        return ok(GROUP, name, "none, so what does not fit is killed and not slow")
    words = f"{format_bytes(host.swap_used_bytes)} of {format_bytes(host.swap_bytes)} used"
    if host.swap_used_bytes > host.memory_bytes // 10:
        return warn(GROUP, name, words, remedy="memory is short: `vmstat 1` shows whether it swaps now")
    return ok(GROUP, name, words)


def check_open_files(limit: Limit, config: Config, *, of_daemon: bool) -> Finding:
    """Each client's connection is one."""
    needed = config.dispatch.max_waiting + config.engine.max_sequences + SPARE_FILES
    whose = "the daemon's" if of_daemon else "for a daemon that is started here"
    words = f"{_shown(limit.soft)} ({whose}; at most {_shown(limit.hard)})"
    if limit.soft is not None and limit.soft < needed:
        return warn(
            GROUP, "open files", f"{words}; a full queue takes up to {needed}",
            remedy="`ulimit -n 65536` before it starts, LimitNOFILE=65536 in its unit, or lower dispatch.max_waiting",
        )  # fmt: skip
    return ok(GROUP, "open files", words)


def check_locked_memory(limit: Limit) -> Finding:
    """CUDA's pinned buffers are the driver's and do not count."""
    shown = "unlimited" if limit.soft is None else format_bytes(limit.soft)
    return ok(GROUP, "memlock", f"{shown}; what CUDA pins does not count")


def check_processors(host: HostFacts, *, cpu_workers: int) -> Finding:
    """`cpu_workers`: how many compute on them; 0 where GPUs do."""
    nodes = f", {host.numa_nodes} NUMA nodes" if host.numa_nodes > 1 else ""
    words = f"{host.usable_cores} of {host.cores} processors usable{nodes}"
    if cpu_workers > host.usable_cores:
        return warn(
            GROUP, "processors", f"{words}, and {cpu_workers} workers compute on them", remedy="lower workers.count"
        )
    if host.usable_cores < 2:
        return warn(
            GROUP, "processors", f"{words}: daemon and workers share one", remedy="give it two or more processors"
        )
    return ok(GROUP, "processors", words)


def check_clock(host: HostFacts) -> Finding:
    """Certificates and logs need it; nothing else of gemmad's does."""
    if host.wall_seconds < _OLDEST_SECONDS:
        now = time.strftime("%Y-%m-%d", time.gmtime(host.wall_seconds))
        return fail(GROUP, "clock", f"it says {now}, so TLS refuses every certificate", remedy="set it: `timedatectl`")
    if host.clock_synchronised is False:
        return warn(GROUP, "clock", "nothing keeps it right", remedy="`timedatectl set-ntp true`; in a VM, of its host")
    return ok(GROUP, "clock", "synchronised" if host.clock_synchronised else "nobody tells whether it is synchronised")


def check_folders(
    folders: Told[tuple[Folder, ...]], *, daemon: DaemonFacts, uid: int, wanted_bytes: int | None
) -> Iterator[Finding]:
    """State and cache. `wanted_bytes`: what a model takes that is still to be pulled."""
    if folders.value is None:
        yield fail(
            GROUP, "disk", f"gemmad's folders: {folders.problem}",
            remedy="a disk or a network mount hangs: `df` on their paths shows which",
        )  # fmt: skip
        return
    for folder in folders.value:
        need = wanted_bytes if folder.kind == "state" else None
        yield _folder(folder, others=daemon.uid is not None and uid not in (daemon.uid, 0), wanted_bytes=need)


def check_versions(version: str, parts: Mapping[str, str], overview: Overview | None) -> Finding:
    """Of this command and the daemon."""
    words = ", ".join([f"gemmad {version}", *(f"{name} {number}" for name, number in parts.items())])
    if overview is not None and overview.version != version:
        return warn(
            GROUP, "versions", f"{words}; the daemon that runs is {overview.version}",
            remedy="start the daemon anew to have it run what is installed",
        )  # fmt: skip
    return ok(GROUP, "versions", words)


def pulled_bytes(config: Config | None, model: ModelFacts | None) -> int | None:
    """About what is to be pulled: of a published size, in bfloat16. None where that is here, or nobody knows."""
    if config is None or config.model.path is None or (model is not None and model.exists):
        return None
    words = str(config.model.path).lower().replace("/", "-").split("-")
    size = next((name for name in PUBLISHED if name in words), None)
    return None if size is None else published_shape(size).weight_bytes(2)


def _folder(folder: Folder, *, others: bool, wanted_bytes: int | None) -> Finding:  # noqa: PLR0911 - each is a fault of its own
    name = f"{folder.kind} folder"
    if folder.free_bytes is None:
        return fail(GROUP, name, f"{folder.path}: cannot be looked at", remedy="its disk may be gone: `df` tells")
    words = f"{folder.path}, {format_bytes(folder.free_bytes)} free" + ("" if folder.exists else ", not made yet")
    if folder.read_only:
        return fail(GROUP, name, f"{words}; its file system is read-only", remedy=_move(folder))
    if not folder.writable and others:
        return skip(
            GROUP, name, f"{words}; it is {folder.owner}'s, and not for you to write", remedy="run this as root"
        )
    if not folder.writable:
        words = f"{words}; it cannot be written, and is {folder.owner}'s"
        if folder.kind == "cache":  # the daemon takes a temporary one instead
            return warn(GROUP, name, f"{words}: kernels are compiled anew at each start", remedy=_move(folder))
        return fail(GROUP, name, words, remedy=_move(folder))
    if wanted_bytes is not None and folder.free_bytes < wanted_bytes:
        return fail(
            GROUP, name, f"{words}; the model takes about {format_bytes(wanted_bytes)}",
            remedy="make room, or put the model on another disk and name its folder in model.path",
        )  # fmt: skip
    if folder.free_bytes < LEAST_STATE_BYTES:
        return warn(GROUP, name, words, remedy="make room: what is measured and compiled is kept there")
    return ok(GROUP, name, words)


def _move(folder: Folder) -> str:
    return f"give it to the daemon's user, or name another one: GEMMAD_{folder.kind.upper()}_DIR"


def _shown(count: int | None) -> str:
    return "unlimited" if count is None else str(count)
