"""Children of ours that another process has forked."""

from __future__ import annotations

import os
import select
import subprocess
import time

_LOOK_SECONDS = 0.002


class Adopted:
    """One of them: as much of a Popen as `Process` needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """As subprocess counts."""

    def wait(self, timeout: float | None = None) -> int:
        """Reap it. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if timeout is not None and not _ends_within(self.pid, timeout):
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def reap_group(number: int, *, seconds: float) -> None:
    """Reap those of our children that are of this process group, which has been killed."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            if os.waitid(os.P_PGID, number, os.WEXITED | os.WNOHANG) is None:
                time.sleep(_LOOK_SECONDS)
    except ChildProcessError:
        return  # there are none, or none any more


def _ends_within(pid: int, seconds: float) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(pidfd)
