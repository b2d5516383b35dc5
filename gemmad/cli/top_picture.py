"""What `gemmad top` has seen of the daemon so far: a value that grows with each answer. Nothing here asks or draws."""

from __future__ import annotations

import enum

import msgspec
from msgspec import Struct

from gemmad.api.dashboard.snapshot import Snapshot
from gemmad.dispatch.listing import Listed
from gemmad.monitor.live import LIVE_SECONDS, LivePoint
from gemmad.monitor.tail import LogLine

LOG_LINES = 200


class Sort(enum.Enum):
    """Which requests stand first."""

    AGE = "age"
    SAID = "said"
    PROMPT = "prompt"
    WORKER = "worker"

    @property
    def next(self) -> Sort:
        """The one after it; behind the last comes the first."""
        members = list(Sort)
        return members[(members.index(self) + 1) % len(members)]


class Picture(Struct, frozen=True, kw_only=True):
    """What there is to show."""

    snapshot: Snapshot | None = None
    """The latest; it stays when the daemon goes."""
    points: tuple[LivePoint, ...] = ()
    """Of the last minutes, the oldest first."""
    log: tuple[LogLine, ...] = ()
    trouble: str | None = None
    """Why the last look had no answer."""
    since: float | None = None
    """When that began, on the caller's clock."""
    sort: Sort = Sort.AGE
    paused: bool = False

    def with_points(self, points: tuple[LivePoint, ...]) -> Picture:
        """The past, as a daemon told it: what was seen of another one before goes."""
        return msgspec.structs.replace(self, points=points[-LIVE_SECONDS:])

    def with_snapshot(self, snapshot: Snapshot) -> Picture:
        """One more look."""
        points = self.points
        if snapshot.point is not None and (not points or snapshot.point.at > points[-1].at):
            points = (*points, snapshot.point)[-LIVE_SECONDS:]
        lines = self.log if self._is_same_daemon(snapshot) else ()
        last = lines[-1].number if lines else -1
        lines = (*lines, *(line for line in snapshot.log if line.number > last))[-LOG_LINES:]
        return msgspec.structs.replace(self, snapshot=snapshot, points=points, log=lines, trouble=None, since=None)

    def with_trouble(self, words: str, *, now: float) -> Picture:
        """A look without an answer."""
        return msgspec.structs.replace(self, trouble=words, since=now if self.since is None else self.since)

    def requests(self) -> tuple[Listed, ...]:
        """In the order that is wanted; those that wait come last, as they have no worker."""
        if self.snapshot is None:
            return ()
        return tuple(sorted(self.snapshot.requests, key=_KEYS[self.sort]))

    def _is_same_daemon(self, snapshot: Snapshot) -> bool:
        return self.snapshot is not None and self.snapshot.overview.pid == snapshot.overview.pid


_KEYS = {
    Sort.AGE: lambda request: (request.worker is None, -request.age_seconds),
    Sort.SAID: lambda request: (request.worker is None, -request.said_tokens),
    Sort.PROMPT: lambda request: (request.worker is None, -request.prompt_tokens),
    Sort.WORKER: lambda request: (request.worker is None, request.worker or "", -request.age_seconds),
}
