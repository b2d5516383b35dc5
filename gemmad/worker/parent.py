"""A worker without its daemon serves nobody: it asks the kernel to be killed with it."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """SIGKILL this process when the thread that spawned it ends, and at once if that has happened already.

    Linux only (prctl(2), PR_SET_PDEATHSIG). The socket's end of file says the same to a worker that reads; it is also
    how one finds out whose daemon was gone before this: a parent with process id 1 may be the daemon, in a container.
    """
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
