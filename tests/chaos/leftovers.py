"""What a daemon holds, seen from outside: processes, descriptors, memory that is shared. Held against what it held."""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from tests.leaks import shared_memory

MARK = "GEMMAD_CHAOS_RUN"
"""A variable of the daemon's that all its processes inherit, whoever their parent is by now."""

ZYGOTE = "gemmad.worker.zygote"


class Holdings(Struct, frozen=True):
    """Counts by kind."""

    processes: dict[str, int]
    """Of the daemon and all that came from it, by what they are; those that nobody has reaped as zombies."""
    descriptors: dict[str, int]
    """Of the daemon, by what they lead to."""
    memfds: int
    """Descriptors of shared memory in all those processes."""
    shared_memory: frozenset[str]
    """In /dev/shm."""


def holdings(daemon_pid: int, mark: str) -> Holdings:
    """As of now."""
    pids = marked(mark)
    return Holdings(
        processes=_count([*map(_kind_of_process, pids), *_zombies_of(daemon_pid)]),
        descriptors=_count(map(kind_of_descriptor, _targets(daemon_pid))),
        memfds=sum(target.startswith("/memfd:") for pid in pids for target in _targets(pid)),
        shared_memory=frozenset(shared_memory()),
    )


def growth(before: Holdings, after: Holdings) -> list[str]:
    """What there is more of, in words. There may be less: a zygote that was killed often stays away for minutes."""
    found = []
    for what in ("processes", "descriptors"):
        then, now = getattr(before, what), getattr(after, what)
        for kind in sorted(now.keys()):
            if then.get(kind, 0) < now[kind]:
                found.append(f"{what}, {kind}: {now[kind]} and not {then.get(kind, 0)}")
    if before.memfds < after.memfds:
        found.append(f"memfds: {after.memfds} and not {before.memfds}")
    found += [f"in /dev/shm: {name}" for name in sorted(after.shared_memory - before.shared_memory)]
    return found


def marked(mark: str) -> set[int]:
    """Living processes whose environment has the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    found.add(int(name))
            except OSError:
                continue
    return found


def zygotes(mark: str) -> set[int]:
    """What workers are forked from: of those with its name the one that began first, the others are its spares."""
    alike = {pid for pid in marked(mark) if _kind_of_process(pid) == ZYGOTE}
    return {min(alike, key=_began_at)} if alike else set()


def kind_of_descriptor(target: str) -> str:
    """Without what differs each time: numbers of sockets, pipes and processes."""
    return re.sub(r"\[?\d+\]?|/proc/\S+", "", target).rstrip(":")


def kind_of_command(line: str) -> str:
    """The module that a command line runs. A worker is a worker, whether it was forked or started anew."""
    words = line.split("\0")
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    return words[0]


def _kind_of_process(pid: int) -> str:
    try:
        return kind_of_command(Path(f"/proc/{pid}/cmdline").read_text(errors="replace"))
    except OSError:
        return "gone"


def _began_at(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 1 << 62
    return int(stat[stat.rindex(")") + 2 :].split()[19])


def _zombies_of(pid: int) -> list[str]:
    found = []
    for child in _children(pid):
        try:
            stat = Path(f"/proc/{child}/stat").read_text(errors="replace")
        except OSError:
            continue
        if stat[stat.rindex(")") + 2] == "Z":
            found.append("zombie")
    return found


def _children(pid: int) -> set[int]:
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def _targets(pid: int) -> list[str]:
    found = []
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
            except OSError:
                continue
    except OSError:
        pass
    return found


def _count(kinds: Iterable[str]) -> dict[str, int]:
    return dict(collections.Counter(kinds))
