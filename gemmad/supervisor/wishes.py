"""What anyone may ask of a worker, and what there is to see of one."""

from __future__ import annotations

from msgspec import Struct

from gemmad.generation import Capacity, EngineLoad, MemoryRow
from gemmad.supervisor.gpus import Gpus
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.restart import Record
from gemmad.supervisor.tally import WorkerTotals


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
    """Finish what runs, and the actor ends with it."""

    grace_seconds: float = 0.0


class Inherit(Struct, frozen=True):
    """The one before it fell while it got ready: what that one's life left counts."""

    record: Record
    last_error: str | None


class Looked(Struct, frozen=True):
    """News of the GPUs, for one that waits for its own."""

    gpus: Gpus
    at: float
    """When the look began, on the pool's clock."""


Wish = Start | Drain | Restart | Stop | Retire | Inherit | Looked


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker as operators see it. Times are on the pool's clock."""

    name: str
    device: str
    state: State
    life: int
    """The number of its latest life."""
    pid: int | None
    stage: str | None
    """What it is loading, while it loads; what it waits for (gpu, memory, or news of
    either), while it waits."""
    fraction: float | None
    since: float
    """When it entered its state."""
    retry_at: float | None
    """When the next life begins by itself; in BACKOFF and FAILED."""
    faults: float
    """The count of faults that the restart budget is held against, as of the last one."""
    last_error: str | None
    """Why its last life ended that should not have; stays when the next one is ready."""
    load: EngineLoad | None
    capacity: Capacity | None
    memory: tuple[MemoryRow, ...] = ()
    """Its plan as it came out, once it is ready."""
    gpu: str | None = None
    """UUID of its GPU."""
    waits_for: str | None = None
    """What it lacks, in words, while it waits."""
    requests: int = 0
    """That its latest life was handed."""
    heard_at: float | None = None
    """When its process last said anything."""
    above_baseline_bytes: int | None = None
    """What its latest life holds of its device beyond what it had when it was ready; None on a CPU, and before."""
    totals: WorkerTotals = WorkerTotals()
    """Of all its lives since the daemon's start, those beside it too; `load` is of the latest alone."""
    next_recycle_at: float | None = None
    """When it is renewed by the clock, if nothing else comes first."""
    last_recycle: str | None = None
    """Why it was renewed the last time, and how that went."""
    held: bool = False
    """It was drained, and stays away until it is resumed."""
    renewing: bool = False
    """A renewal was asked for or is under way."""
    successor: WorkerStatus | None = None
    """Its next life, which gets ready beside it."""
    leaving: tuple[WorkerStatus, ...] = ()
    """Earlier ones, which finish what they have."""

    @property
    def kv_usage(self) -> float | None:
        """Of the fuller of its two page pools, 0 to 1; None while it is not ready."""
        load, capacity = self.load, self.capacity
        if load is None or capacity is None:
            return None
        full = load.full_pages_used / max(1, capacity.full_pages)
        return max(full, load.sliding_pages_used / max(1, capacity.sliding_pages))
