from __future__ import annotations

import os
from pathlib import Path

from gemmad.planning.host import host_bytes, host_rss_bytes


def test_a_container_has_less(tmp_path: Path) -> None:
    """A container's limit counts where it is less than the machine; no limit, or no container, is the machine."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = tmp_path / "memory.max"
    assert host_bytes(limit) == machine
    limit.write_text("max\n")
    assert host_bytes(limit) == machine
    limit.write_text("1000000\n")
    assert host_bytes(limit) == 1_000_000


def test_resident_memory() -> None:
    """This process has some, and less than the machine."""
    assert 1 << 20 < host_rss_bytes() < host_bytes(Path("/nowhere"))
