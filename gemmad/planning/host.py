"""The host's memory, in which a CPU worker computes."""

from __future__ import annotations

import os
from pathlib import Path


def host_bytes(cgroup: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Bytes of this machine, or the container's limit where that is less."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(installed, int(cgroup.read_text()))
    except (OSError, ValueError):  # no cgroup v2 here, or "max"
        return installed


def host_rss_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
