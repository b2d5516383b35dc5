"""What is measured of one worker's memory at one moment."""

from __future__ import annotations

from msgspec import Struct


class MemorySample(Struct, frozen=True, kw_only=True):
    """One worker, as of `at`. Bytes are on its device unless the name says host; what cannot be known is None."""

    at: float
    """Seconds since the epoch."""
    worker: str
    life: int
    state: str
    """One of docs/lifecycle.md."""
    gpu: str | None = None
    """UUID of its GPU or MIG slice."""
    planned_bytes: int | None = None
    """What its plan came to, the reserve included; None on a CPU and before it is ready."""
    reserved_bytes: int | None = None
    """What its allocator has taken from the device."""
    allocated_bytes: int | None = None
    """Those of them that it has handed out."""
    above_baseline_bytes: int | None = None
    """Reserved now less reserved when it was ready: 0 is the only right value."""
    full_pages: int = 0
    full_pages_used: int = 0
    sliding_pages: int = 0
    sliding_pages_used: int = 0
    kv_bytes: int | None = None
    """What both page pools hold together, used or not."""
    preemptions: int = 0
    """Requests set back for lack of pages, in this life so far."""
    host_rss_bytes: int = 0
    gpu_used_bytes: int | None = None
    """Of its GPU as the driver counts, whoever has it."""
    gpu_total_bytes: int | None = None
    gpu_planned_bytes: int | None = None
    """What the plans of all lives on its GPU come to; None while one of them has none yet, so while one is renewed."""

    @property
    def kv_usage(self) -> float | None:
        """Of the fuller page pool, 0 to 1; None before it is ready."""
        if not self.full_pages and not self.sliding_pages:
            return None
        return max(self.full_pages_used / max(1, self.full_pages), self.sliding_pages_used / max(1, self.sliding_pages))

    @property
    def fragmentation(self) -> float | None:
        """Share of what is reserved that is not handed out; None where nothing is reserved."""
        if not self.reserved_bytes or self.allocated_bytes is None:
            return None
        return 1.0 - self.allocated_bytes / self.reserved_bytes


class Samples(Struct, frozen=True):
    """The answer to `GET /memory` and to `GET /dashboard/history`."""

    samples: tuple[MemorySample, ...]
    """The oldest first."""
