"""The last minutes, second by second, for whoever opens a page or a terminal now."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

LIVE_SECONDS = 900
"""One point a second."""


class WorkerPoint(Struct, frozen=True, kw_only=True):
    """One worker in one second."""

    name: str
    state: str
    running: int = 0
    kv_usage: float | None = None
    device_bytes: int = 0
    """Reserved by its allocator on its device."""
    host_rss_bytes: int = 0
    tokens_per_second: float = 0.0


class LivePoint(Struct, frozen=True, kw_only=True):
    """The daemon in one second."""

    at: float
    """Seconds since the epoch."""
    running: int
    waiting: int
    tokens_per_second: float
    """Generated in this second, all workers together."""
    prompt_tokens_per_second: float
    """Computed of prompts in this second."""
    ttft_p50: float | None
    """Seconds to the first token, of those requests that got theirs in the last minute; None if there were none."""
    ttft_p95: float | None
    workers: tuple[WorkerPoint, ...] = ()


class LiveRing:
    """The points of the last `LIVE_SECONDS`, the oldest first."""

    def __init__(self, *, limit: int = LIVE_SECONDS) -> None:
        self._points: deque[LivePoint] = deque(maxlen=limit)

    def add(self, point: LivePoint) -> None:
        """One more; the oldest goes if there are too many."""
        self._points.append(point)

    def points(self) -> tuple[LivePoint, ...]:
        """All that are kept."""
        return tuple(self._points)
