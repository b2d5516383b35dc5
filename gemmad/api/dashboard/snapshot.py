"""What a dashboard is sent each second, field by field. `gemmad top` reads the same from the control socket."""

from __future__ import annotations

from msgspec import Struct

from gemmad.api.overview import Overview
from gemmad.dispatch.listing import Listed
from gemmad.monitor.alert import Alert
from gemmad.monitor.live import LivePoint
from gemmad.monitor.tail import LogLine
from gemmad.supervisor.gauges import GpuGauge


class Snapshot(Struct, frozen=True, kw_only=True):
    """Everything at one look."""

    at: float
    """Seconds since the epoch."""
    overview: Overview
    """As `GET /status` on the control socket tells it."""
    point: LivePoint | None
    """The latest second."""
    gpus: tuple[GpuGauge, ...] = ()
    requests: tuple[Listed, ...] = ()
    """The longest-running first, 100 at most."""
    alerts: tuple[Alert, ...] = ()
    log: tuple[LogLine, ...] = ()
    """Those since the last snapshot; in the first one the last 200."""
    may_act: bool = False
    """Whether whoever asks may drain, recycle, reload and cancel."""


class LivePoints(Struct, frozen=True):
    """The last minutes, second by second: what a stream begins with, and the answer to `GET /live`."""

    points: tuple[LivePoint, ...]


class Token(Struct, frozen=True):
    """The answer to `POST /dashboard/token`."""

    token: str
    url: str
    """Where the API, and with it the dashboard, listens."""
