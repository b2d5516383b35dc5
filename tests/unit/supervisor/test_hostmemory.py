"""What the kernel tells of the host's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemmad.supervisor.hostmemory import MemoryWatch, available_bytes

GIB = 1 << 30
PID = 4242


class FakeHost:
    """A folder that looks like /proc and /sys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cgroup("self", "/gemmad.service/daemon")
        self.cgroup(str(PID), "/gemmad.service/gpu0")
        self.write("proc/vmstat", "pgfault 7\noom_kill 3\n")
        self.write("proc/meminfo", "MemTotal: 64000000 kB\nMemAvailable: 33554432 kB\n")
        self.kills("daemon", 0)
        self.kills("gpu0", 0)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def cgroup(self, pid: str, path: str) -> None:
        self.write(f"proc/{pid}/cgroup", f"4:memory:/elsewhere\n0::{path}\n")

    def kills(self, name: str, count: int) -> None:
        path = f"sys/fs/cgroup/gemmad.service/{name}/memory.events"
        self.write(path, f"low 0\nhigh 0\nmax 9\noom 9\noom_kill {count}\noom_group_kill 0\n")


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.mark.parametrize("name", ["daemon", "gpu0"])
def test_a_cgroup_that_ran_full(host: FakeHost, name: str) -> None:
    """A kill in the worker's cgroup, or in the daemon's, is the limit's doing."""
    watch = MemoryWatch(PID, root=host.root)
    assert watch.explain() is None
    host.kills(name, 1)
    host.write("proc/vmstat", "oom_kill 4\n")
    assert "the memory limit of its cgroup was reached" in (watch.explain() or "")


def test_a_cgroup_that_is_gone_with_its_process(host: FakeHost) -> None:
    """What cannot be read any more is no evidence; the host's count is a hint."""
    watch = MemoryWatch(PID, root=host.root)
    (host.root / f"proc/{PID}/cgroup").unlink()
    (host.root / "sys/fs/cgroup/gemmad.service/gpu0/memory.events").unlink()
    assert watch.explain() is None
    host.write("proc/vmstat", "oom_kill 4\n")
    assert "most likely by the kernel" in (watch.explain() or "")


def test_kills_of_long_ago_are_not_its_own(host: FakeHost) -> None:
    """What was counted two looks before the end has killed somebody else; what was counted by the last one may not."""
    watch = MemoryWatch(PID, root=host.root)
    host.kills("gpu0", 1)
    watch.look()
    assert watch.explain() is not None
    watch.look()
    assert watch.explain() is None


def test_a_host_that_tells_nothing(tmp_path: Path) -> None:
    """Without cgroup v2 and without counters nothing is claimed."""
    watch = MemoryWatch(PID, root=tmp_path)
    watch.look()
    assert watch.explain() is None
    assert available_bytes(tmp_path) is None


def test_what_is_left(host: FakeHost) -> None:
    """The host's estimate, or what the cgroup's limit leaves with its caches dropped, whichever is less."""
    assert available_bytes(host.root) == 32 * GIB
    folder = "sys/fs/cgroup/gemmad.service/daemon"
    host.write(f"{folder}/memory.current", f"{10 * GIB}\n")
    host.write(f"{folder}/memory.max", "max\n")
    assert available_bytes(host.root) == 32 * GIB
    host.write(f"{folder}/memory.max", f"{12 * GIB}\n")
    host.write(f"{folder}/memory.stat", f"anon 5\ninactive_file {GIB}\n")
    assert available_bytes(host.root) == 3 * GIB
    above = "sys/fs/cgroup/gemmad.service"
    host.write(f"{above}/memory.current", f"{19 * GIB}\n")
    host.write(f"{above}/memory.max", f"{20 * GIB}\n")
    assert available_bytes(host.root) == GIB  # a limit of the whole service binds the daemon's own cgroup, too


def test_the_real_host_answers() -> None:
    """Whatever this machine is, nothing is raised."""
    watch = MemoryWatch(1)
    watch.look()
    assert watch.explain() is None
    assert (available_bytes() or 1) > 0
