"""What watches the daemon while it serves: each second for those who look now, each `monitor.interval` for the disk.

Here is the shell around `gemmad.monitor`: it asks workers and GPUs, has pure functions judge what they say, and carries
the outcome to the log, the metrics, the webhook and the disk. It serves nobody and stops nothing: whatever goes wrong
here is logged, and the daemon goes on.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gemmad.api.dashboard.watched import Watched
from gemmad.config.schema import MonitorSection, RecycleSection
from gemmad.daemon.samples import Intervals, Seconds
from gemmad.dispatch.counts import DispatchStatus
from gemmad.logs import get_logger
from gemmad.monitor.alert import Alert
from gemmad.monitor.history import History
from gemmad.monitor.live import LiveRing
from gemmad.monitor.measures import HostMemory, measures
from gemmad.monitor.rates import FirstTokens
from gemmad.monitor.sample import MemorySample
from gemmad.monitor.thresholds import Change, Held, Key, alerts, judge
from gemmad.monitor.webhook import Webhook
from gemmad.supervisor.gauges import Gauges
from gemmad.supervisor.hostmemory import memory_closest_to_its_limit
from gemmad.supervisor.wishes import WorkerStatus

TICK_SECONDS = 1.0
TROUBLE_SECONDS = 600.0
"""What keeps going wrong is told so often."""

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is looked at. Sections are live: they are asked for at each decision."""

    section: Callable[[], MonitorSection]
    recycle: Callable[[], RecycleSection]
    workers: Callable[[], tuple[WorkerStatus, ...]]
    dispatch: Callable[[], DispatchStatus]
    host: Callable[[], tuple[int, int] | None] = memory_closest_to_its_limit
    """Total and available bytes."""
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class Monitoring:
    """Built and run by `daemon.run`."""

    def __init__(
        self,
        folder: Path,
        sources: Sources,
        *,
        version: str,
        count: Callable[[Change], None] = lambda _change: None,
        gauges: Gauges | None = None,
    ) -> None:
        """Samples are kept in `folder`; `count` is told what somebody is told; without `gauges` NVML is asked."""
        self._folder = folder
        self._sources = sources
        self._count = count
        self._gauges = gauges or Gauges(lambda: sources.section().interval)
        self._webhook = Webhook(section=sources.section, host=socket.gethostname(), version=version, wall=sources.wall)
        self._live = LiveRing()
        self._first_tokens = FirstTokens(clock=sources.clock)
        self._seconds = Seconds(self._first_tokens)
        self._intervals = Intervals()
        self._sampled_at: float | None = None
        self._held: dict[Key, Held] = {}
        self._history: History | None = None
        self._trouble: tuple[str, float] | None = None
        self.watched = Watched(
            live=self._live.points,
            gauges=lambda: self._gauges.latest,
            alerts=self.alerts,
            history=self.samples,
            first_token=self._first_tokens.observe,
            looked_at=self._gauges.looked_at,
        )

    async def run(self) -> None:
        """Until cancelled; what was measured is on the disk then."""
        self._history = History(self._folder, section=self._sources.section, wall=self._sources.wall)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._gauges.run(), name="gauges")
                group.create_task(self._webhook.run(), name="webhook")
                group.create_task(self._tick(), name="ticks")
        finally:
            history, self._history = self._history, None
            history.close()

    def alerts(self) -> tuple[Alert, ...]:
        """Those that hold now, the worst first."""
        return alerts(self._held, now=self._sources.clock())

    async def samples(self, since: float, until: float, limit: int) -> tuple[MemorySample, ...]:
        """What was kept of that time, thinned to about `limit` of each worker. Raises UnavailableError."""
        return () if self._history is None else await self._history.samples(since, until, limit)

    def look(self) -> None:
        """What is due now: a point, and once an interval samples, and who is to be told of them."""
        sources, section = self._sources, self._sources.section()
        now, at, workers = sources.clock(), sources.wall(), sources.workers()
        self._live.add(self._seconds.point(workers, sources.dispatch(), at=at, now=now))
        self._intervals.note(workers)
        if self._sampled_at is not None and now < self._sampled_at + section.interval - TICK_SECONDS / 2:
            return
        self._sampled_at = now
        samples = self._intervals.samples(workers, self._gauges.latest, at=at)
        if self._history is not None and samples:
            self._history.add(samples)
        host = None if (told := sources.host()) is None else HostMemory(*told)
        measured = measures(samples, recycle=sources.recycle(), host=host)
        self._held, changes = judge(self._held, measured, section=section, now=now)
        for change in changes:
            self._tell(change)

    def _tell(self, change: Change) -> None:
        alert = change.alert
        say = log.info if change.event == "ends" else log.error if alert.level == "critical" else log.warning
        say(
            f"memory alert {change.event}",
            severity=alert.level,
            about=alert.about,
            worker=alert.worker,
            share=alert.share,
            reason=alert.words,
            remedy=alert.action,
        )
        self._count(change)
        self._webhook.post(change)

    async def _tick(self) -> None:
        while True:
            began = self._sources.clock()
            try:
                self.look()
            except Exception as error:  # to measure is not worth a daemon that serves
                self._note_trouble(error)
            await asyncio.sleep(max(0.0, began + TICK_SECONDS - self._sources.clock()))

    def _note_trouble(self, error: Exception) -> None:
        now, words = self._sources.clock(), repr(error)
        if self._trouble is None or self._trouble[0] != words or now >= self._trouble[1] + TROUBLE_SECONDS:
            self._trouble = (words, now)
            log.error("cannot measure", exc_info=error)
