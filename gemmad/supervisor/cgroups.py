"""A cgroup for each worker, below the daemon's own, where the service manager has delegated that to us.

A worker that reaches the memory limit then dies with all of its processes, and alone: the kernel kills its cgroup and
leaves the daemon's. Where nothing is delegated (no systemd, no `Delegate=`, an old kernel) workers live without one.

A cgroup with controllers for those below it may have no processes itself (cgroups(7)), so the daemon moves into one,
too.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gemmad.logs import get_logger
from gemmad.supervisor.hostmemory import ROOT, cgroup_of

DAEMON = "daemon"
WORKER = "worker-"
CONTROLLERS = ("memory", "pids", "cpu")
"""Wanted for workers, as far as they were delegated."""
DELEGATED = ("user.delegate", "trusted.delegate")
"""What systemd writes on a cgroup that it leaves to a service; only root sees the second."""
OOM_SCORE_ADJUST = 300
"""When the host runs out of memory, a worker, which is started again, goes before the daemon."""

log = get_logger("gemmad.supervisor")


class Cgroup:
    """One worker's. `close` kills what is left in it and removes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def close(self) -> bool:
        """Whether it is gone; if not, what was killed is still on its way out."""
        _write(self.folder / "cgroup.kill", "1")  # since Linux 5.14
        try:
            self.folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class Cgroups:
    """Makes them below `home`; without a home it makes none."""

    def __init__(self, home: Path | None) -> None:
        self._home = home
        self._leaving: list[Cgroup] = []

    def take(self, name: str, pid: int) -> Cgroup | None:
        """Put a process, and what it starts from now on, into a cgroup of its own. None where that is not possible."""
        if self._home is None:
            return None
        _write(Path(f"/proc/{pid}/oom_score_adj"), str(OOM_SCORE_ADJUST))
        self._leaving = [cgroup for cgroup in self._leaving if not cgroup.close()]
        cgroup = Cgroup(self._home / f"{WORKER}{name}")
        try:
            cgroup.folder.mkdir(exist_ok=True)
            _write(cgroup.folder / "memory.oom.group", "1")
            (cgroup.folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            log.warning("worker has no cgroup", worker=name, reason=str(error))
            cgroup.close()
            return None
        return cgroup

    def give_back(self, cgroup: Cgroup) -> None:
        """Its worker is gone."""
        if not cgroup.close():
            self._leaving.append(cgroup)


def settle(root: Path = ROOT) -> Cgroups:
    """Move this process into a cgroup of its own, if its present one was delegated; called before it starts any other.
    What does not work is told, and no error."""
    home = cgroup_of(root, "self")
    if home is None or not _is_delegated(home):
        log.debug("workers have no cgroups", reason="none is delegated to this process")
        return Cgroups(None)
    try:
        (home / DAEMON).mkdir(exist_ok=True)
        (home / DAEMON / "cgroup.procs").write_text(str(os.getpid()))
        offered = (home / "cgroup.controllers").read_text().split()
    except OSError as error:
        log.warning("workers have no cgroups", reason=str(error))
        return Cgroups(None)
    given = [name for name in CONTROLLERS if name in offered and _write(home / "cgroup.subtree_control", f"+{name}")]
    log.info("workers have cgroups", below=str(home), controllers=given)
    return Cgroups(home)


def _is_delegated(folder: Path) -> bool:
    for name in DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _write(path: Path, text: str) -> bool:
    """Whether the kernel took it."""
    try:
        path.write_text(text)
    except OSError:
        return False
    return True
