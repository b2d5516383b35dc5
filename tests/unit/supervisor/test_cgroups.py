"""Over a folder that looks like the kernel's; tests/system has the real one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemmad.supervisor.cgroups import Cgroups, settle


@pytest.fixture
def child() -> Iterator[int]:
    """A process that may be moved about."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def host(folder: Path, *, delegated: bool) -> Path:
    """A root whose only service is this process; its cgroup."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text("0::/system.slice/gemmad.service\n")
    home = folder / "sys/fs/cgroup/system.slice/gemmad.service"
    home.mkdir(parents=True)
    (home / "cgroup.controllers").write_text("cpu pids\n")
    if delegated:
        try:
            os.setxattr(home, "user.delegate", b"1")
        except OSError as error:
            pytest.skip(f"no extended attributes here: {error}")
    return home


def test_a_delegated_cgroup_is_divided(tmp_path: Path, child: int) -> None:
    """The daemon moves into a cgroup of its own, and each worker gets one that dies as a whole."""
    home = host(tmp_path, delegated=True)
    cgroups = settle(tmp_path)
    assert (home / "daemon/cgroup.procs").read_text() == str(os.getpid())
    assert (home / "cgroup.subtree_control").read_text() == "+cpu"  # the last one that was written
    cgroup = cgroups.take("gpu0-1", child)
    assert cgroup is not None
    assert cgroup.folder == home / "worker-gpu0-1"
    assert (cgroup.folder / "cgroup.procs").read_text() == str(child)
    assert (cgroup.folder / "memory.oom.group").read_text() == "1"
    assert Path(f"/proc/{child}/oom_score_adj").read_text().strip() == "300"


def test_what_is_not_delegated_is_left_alone(tmp_path: Path, child: int) -> None:
    """Without delegation nothing is made or moved, though it could be."""
    home = host(tmp_path, delegated=False)
    assert settle(tmp_path).take("gpu0-1", child) is None
    assert [path.name for path in home.iterdir()] == ["cgroup.controllers"]


def test_a_host_without_cgroups(tmp_path: Path, child: int) -> None:
    """Where the kernel tells nothing of cgroups there are none."""
    assert settle(tmp_path).take("gpu0-1", child) is None


def test_one_that_is_still_busy_is_removed_later(tmp_path: Path, child: int) -> None:
    """A cgroup whose processes are still on their way out is removed when the next one is made."""
    cgroups = Cgroups(tmp_path)
    first = cgroups.take("gpu0-1", child)
    assert first is not None
    cgroups.give_back(first)  # it has files here, as a folder has that cannot be removed
    assert first.folder.exists()
    for file in first.folder.iterdir():
        file.unlink()
    first.folder.rmdir()
    first.folder.mkdir()
    assert cgroups.take("gpu0-2", child) is not None
    assert (first.folder / "cgroup.kill").exists()  # it was tried again


def test_a_cgroup_that_cannot_be_made(tmp_path: Path, child: int) -> None:
    """A worker whose cgroup cannot be made does without."""
    (tmp_path / "worker-gpu0-1").write_text("in the way")
    assert Cgroups(tmp_path).take("gpu0-1", child) is None
