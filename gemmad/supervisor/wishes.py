"""What anyone may ask of a worker, and what there is to see of one."""

from __future__ import annotations

from msgspec import Struct

from gemmad.generation import Capacity, EngineLoad
from gemmad.supervisor.lifecycle import State


class Start(Struct, frozen=True):
    """It is wanted: begin, if nothing else stands in the way."""


class Drain(Struct, frozen=True):
    """Finish what runs, then exit; where nothing runs, stop."""

    grace_seconds: float


class Restart(Struct, frozen=True):
    """Make way for the next life as `Drain` does; where no process is, begin it now."""

    grace_seconds: float


class Stop(Struct, frozen=True):
    """Exit now."""


class Retire(Struct, frozen=True):
    """Exit now, and the actor ends with it."""


Wish = Start | Drain | Restart | Stop | Retire


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker as operators see it."""

    name: str
    device: str
    state: State
    life: int
    """How many times it was started."""
    pid: int | None
    stage: str | None
    """What it is loading, while it loads."""
    fraction: float | None
    since: float
    """When it entered its state, on the pool's clock."""
    retry_at: float | None
    """When the next life begins by itself, on the pool's clock; in BACKOFF and FAILED."""
    faults: float
    """The count of faults that the restart budget is held against, as of the last one."""
    last_error: str | None
    """Why its last life ended that should not have; stays when the next one is ready."""
    load: EngineLoad | None
    capacity: Capacity | None
