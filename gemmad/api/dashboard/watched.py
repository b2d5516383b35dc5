"""What the dashboard reads of the rest of the daemon, as values and callables; none of them waits unless it says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gemmad.monitor.alert import Alert
from gemmad.monitor.live import LivePoint
from gemmad.monitor.sample import MemorySample
from gemmad.monitor.tail import LogLine
from gemmad.supervisor.gauges import GpuGauge


async def _nothing(since: float, until: float, limit: int) -> tuple[MemorySample, ...]:
    del since, until, limit
    return ()


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Without any of it a page shows less."""

    live: Callable[[], tuple[LivePoint, ...]] = tuple
    """The last minutes, the oldest first."""
    gauges: Callable[[], tuple[GpuGauge, ...]] = tuple
    alerts: Callable[[], tuple[Alert, ...]] = tuple
    """Those that hold now."""
    log: Callable[[int], tuple[LogLine, ...]] = lambda _number: ()
    """Lines with a number above this one, the oldest first."""
    history: Callable[[float, float, int], Awaitable[tuple[MemorySample, ...]]] = _nothing
    """`(since, until, limit)`: samples of that time, in seconds since the epoch, thinned to about `limit` a worker. It
    reads the disk in a thread."""
    first_token: Callable[[float], None] = lambda _seconds: None
    """To be called once a request, when it has its first token, with the seconds since it came."""
    looked_at: Callable[[], None] = lambda: None
    """To be called while somebody looks, once a second: gauges are then fresher."""
