"""What every worker of a pool shares."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable

from gemmad.config.schema import WorkersSection
from gemmad.generation import EngineSettings
from gemmad.supervisor.cgroups import Cgroups
from gemmad.supervisor.child import Spawn
from gemmad.supervisor.hostmemory import MemoryWatch, available_bytes
from gemmad.supervisor.listener import Listener
from gemmad.supervisor.seat import Seat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
    """What the supervisor asks of the machine that it runs on."""

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    """Seconds since the epoch."""
    chance: Callable[[], float] = random.random
    """In [0, 1)."""
    watch_memory: Callable[[int], MemoryWatch] = MemoryWatch
    available_bytes: Callable[[], int | None] = available_bytes
    cgroups: Cgroups = dataclasses.field(default_factory=lambda: Cgroups(None))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Settings are callables because they change while workers live: they are asked for at each decision."""

    section: Callable[[], WorkersSection]
    settings: Callable[[Seat], EngineSettings]
    listener: Listener
    spawn: Spawn
    host: Host
    changed: Callable[[], None]
    """Called after every move and every sign of progress."""
    looks: bool = False
    """Whether somebody looks at the GPUs, so that a worker on one can wait for it."""
