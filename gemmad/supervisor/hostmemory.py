"""The host's memory: how much is left, and whether the kernel has killed someone for the lack of it.

Read from /proc and from cgroup v2; what a system does not tell is unknown, never an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ROOT = Path("/")
"""Where /proc and /sys are; a test has its own."""
EVENTS = "memory.events"


class MemoryWatch:
    """Over one process: `look` now and then while it lives, and `explain` once it was killed by nobody we know."""

    def __init__(self, pid: int, *, root: Path = ROOT) -> None:
        self._pid = pid
        self._root = root
        self._before: dict[Path, int] = {}
        self._latest: dict[Path, int] = {}
        self.look()
        self.look()

    def look(self) -> None:
        """What had happened by the last look has not killed it; what happened since may have, though it is not known
        to be dead yet."""
        files = {_events(self._root, pid) for pid in ("self", str(self._pid))} | set(self._latest)
        self._before, self._latest = self._latest, _kills(self._root, files)

    def explain(self) -> str | None:
        """Words, if the kernel has killed someone for lack of memory since the last look but one. It counts before it
        kills, so a death that is known is counted."""
        now = _kills(self._root, set(self._before))
        rose = [path for path, count in self._before.items() if now.get(path, 0) > count]
        if not rose:
            return None
        if any(path.name == EVENTS for path in rose):
            return "killed by the kernel: the memory limit of its cgroup was reached"
        return "killed by SIGKILL, most likely by the kernel: just now the host ran out of memory"


def available_bytes(root: Path = ROOT) -> int | None:
    """What could be taken without swapping: by the host's estimate, or a limit of its cgroups if that leaves less."""
    found = []
    kib = _counter(root / "proc/meminfo", "MemAvailable:")
    if kib is not None:
        found.append(kib << 10)
    for cgroup in _with_those_above(root, "self"):
        limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
        if limit is not None and used is not None:
            reclaimable = _counter(cgroup / "memory.stat", "inactive_file") or 0
            found.append(max(0, limit - used + reclaimable))
    return min(found, default=None)


def memory_closest_to_its_limit(root: Path = ROOT) -> tuple[int, int] | None:
    """Bytes in all and available, of the host or of that cgroup of this process which has the smaller share left."""
    found = []
    installed, available = (_counter(root / "proc/meminfo", name) for name in ("MemTotal:", "MemAvailable:"))
    if installed is not None and available is not None:
        found.append((installed << 10, available << 10))
    for cgroup in _with_those_above(root, "self"):
        limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
        if limit is not None and used is not None:
            reclaimable = _counter(cgroup / "memory.stat", "inactive_file") or 0
            found.append((limit, max(0, limit - used + reclaimable)))
    return min((each for each in found if each[0] > 0), key=lambda each: each[1] / each[0], default=None)


def _with_those_above(root: Path, pid: str) -> list[Path]:
    """The cgroups of a process from its own upwards, each of which may have a limit."""
    cgroup, top = cgroup_of(root, pid), root / "sys/fs/cgroup"
    return [] if cgroup is None else [each for each in (cgroup, *cgroup.parents) if each.is_relative_to(top)]


def _events(root: Path, pid: str) -> Path | None:
    cgroup = cgroup_of(root, pid)
    return None if cgroup is None else cgroup / EVENTS


def _kills(root: Path, events: Iterable[Path | None]) -> dict[Path, int]:
    """How often the kernel has killed for lack of memory, in each cgroup and those below it, and on the whole host."""
    files = [*(path for path in events if path is not None), root / "proc/vmstat"]
    counts = {path: _counter(path, "oom_kill") for path in files}
    return {path: count for path, count in counts.items() if count is not None}


def cgroup_of(root: Path, pid: str) -> Path | None:
    """The folder of a process in the v2 hierarchy."""
    try:
        lines = (root / "proc" / pid / "cgroup").read_text().splitlines()
    except OSError:
        return None
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    return None if path is None else root / "sys/fs/cgroup" / path.lstrip("/")


def _counter(path: Path, name: str) -> int | None:
    """The number behind a name in a file of `name number` lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.split()[:1] == [name])
    return next((int(value) for value in values if value.isdigit()), None)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
