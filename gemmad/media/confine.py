"""What a media process may take of its host. Linux; all of it needs no privilege."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

from gemmad.protocol.framing import MAX_FRAME_BYTES

OPEN_FILES = 32
NICENESS = 5
"""Pictures are made ready while others' tokens are computed."""
OOM_SCORE = 500
"""Whom the kernel kills first when the host runs out of memory: whoever decodes strangers' files."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def confine_process(*, largest_file: int) -> None:
    """Die with the parent, gain nothing, start nothing, write no file over `largest_file` bytes. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the daemon decides
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, largest_file),
    ):
        _, hard = resource.getrlimit(limit)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # no /proc, or a sandbox that keeps it read-only
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


class AddressSpace:
    """Bounds what one picture may add to the process, and notices when pictures have left too much behind.

    The hard limit, which a decoder that was taken over cannot lift, leaves room for a frame in all its copies.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._start_bytes = mapped_bytes()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        ceiling = self._start_bytes + 2 * memory_bytes + 4 * MAX_FRAME_BYTES
        self._ceiling_bytes = ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard)
        self._limit(self._ceiling_bytes)

    def __enter__(self) -> None:
        """From here on one picture's worth may be added."""
        self._limit(min(mapped_bytes() + self._memory_bytes, self._ceiling_bytes))

    def __exit__(self, *_: object) -> None:
        self._limit(self._ceiling_bytes)

    def count_from_here(self) -> None:
        """What is there now stays for good: a library was loaded, no picture left it behind."""
        self._start_bytes = mapped_bytes()

    @property
    def has_grown(self) -> bool:
        """Whether the process keeps so much that it had better be replaced."""
        return mapped_bytes() > self._start_bytes + self._memory_bytes // 2

    def _limit(self, value: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (value, self._ceiling_bytes))


def mapped_bytes() -> int:
    """Address space of this process, as RLIMIT_AS counts it."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")
