"""The machine, from /proc and /sys; and gemmad's folders, which may be on a disk that hangs."""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import time
from collections.abc import Iterable
from pathlib import Path

from gemmad.doctor.facts import Folder, HostFacts, Limit
from gemmad.planning.host import host_bytes
from gemmad.supervisor.hostmemory import available_bytes, cgroup_of
from gemmad.supervisor.seating import usable_cores

_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
_TIMEX_BYTES = 512
"""More than any version of struct timex; all zero it only asks."""


def read_host(root: Path = Path("/")) -> HostFacts:
    """Quick, and reads nothing but what the kernel makes up."""
    memory = _table(root / "proc/meminfo")
    return HostFacts(
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        numa_nodes=len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or 1,
        memory_bytes=memory.get("MemTotal", 0) << 10 or host_bytes(),
        available_bytes=available_bytes(root),
        cgroup_limit_bytes=cgroup_limit(root),
        swap_bytes=memory.get("SwapTotal", 0) << 10,
        swap_used_bytes=(memory.get("SwapTotal", 0) - memory.get("SwapFree", 0)) << 10,
        open_files=_own_limit(resource.RLIMIT_NOFILE),
        locked_bytes=_own_limit(resource.RLIMIT_MEMLOCK),
        clock_synchronised=clock_synchronised(),
        wall_seconds=time.time(),
        first_port=_number(root / "proc/sys/net/ipv4/ip_unprivileged_port_start", 1024),
    )


def cgroup_limit(root: Path) -> int | None:
    """The least memory.max of our cgroup and those above it; None where none is set."""
    own, top = cgroup_of(root, "self"), root / "sys/fs/cgroup"
    folders = [each for each in (own, *own.parents) if each.is_relative_to(top)] if own is not None else []
    limits = [_number(folder / "memory.max", 0) for folder in folders]
    return min((limit for limit in limits if limit), default=None)


def clock_synchronised() -> bool | None:
    """Whether something keeps the kernel's clock right; None where nobody tells."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def limits_of(pid: int, proc: Path = Path("/proc")) -> Limit | None:
    """Open files that another process may have."""
    try:
        lines = (proc / str(pid) / "limits").read_text().splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith("Max open files")), [])
    if len(words) < 5:
        return None
    soft, hard = (int(word) if word.isdigit() else None for word in words[3:5])
    return Limit(soft, hard)


def read_folders(wanted: Iterable[tuple[str, Path]]) -> tuple[Folder, ...]:
    """Each kind and path. Nothing is written: what would be made is asked of the folder above it."""
    return tuple(_folder(kind, path) for kind, path in wanted)


def _folder(kind: str, path: Path) -> Folder:
    there = next((each for each in (path, *path.parents) if _exists(each)), Path("/"))
    try:
        free = os.statvfs(there)
    except OSError:
        return Folder(kind=kind, path=str(path), exists=there == path, writable=False)
    return Folder(
        kind=kind,
        path=str(path),
        exists=there == path,
        writable=there.is_dir() and os.access(there, os.W_OK | os.X_OK),
        read_only=bool(free.f_flag & os.ST_RDONLY),
        free_bytes=free.f_bavail * free.f_frsize,
        owner=_owner(there),
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder above it is closed to us
        return False


def _owner(path: Path) -> str:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _own_limit(kind: int) -> Limit:
    soft, hard = (None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(kind))
    return Limit(soft, hard)


def _table(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) for words in pairs if len(words) > 1 and words[1].isdigit()}


def _number(path: Path, usual: int) -> int:
    try:
        text = path.read_text().strip()
    except OSError:
        return usual
    return int(text) if text.isdigit() else usual
