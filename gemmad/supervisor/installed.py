"""Whether the code on disk is still what a process has imported."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from msgspec import Struct

PACKAGE = Path(__file__).parents[1]


class Installed(Struct, frozen=True):
    """Unequal before and after an upgrade."""

    newest: int
    """When one of gemmad's modules was last written, in nanoseconds since the epoch."""
    modules: int
    beside: int
    """When a package was last installed, removed or upgraded where torch is."""
    engine: str = ""
    """Which one torch comes from, if not from the daemon's own environment."""


def installed_code(package: Path = PACKAGE, *, library: str = "torch") -> Installed:
    """As of now: some milliseconds of looking at files."""
    written = [
        _written(os.path.join(folder, name))
        for folder, _, names in os.walk(package)
        for name in names
        if name.endswith(".py")
    ]
    spec = importlib.util.find_spec(library)
    site = "" if spec is None or spec.origin is None else str(Path(spec.origin).parents[1])
    return Installed(newest=max(written, default=0), modules=len(written), beside=_written(site))


def _written(path: str) -> int:
    """0 for what is not there, or not any more: an upgrade may be under way."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
