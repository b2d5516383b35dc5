"""One look at the daemon: what a snapshot is made of. Nothing here waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.requests import Request

from gemmad.api.dashboard.snapshot import Snapshot
from gemmad.api.operator import Operator
from gemmad.monitor.tail import LogLine

MOST_REQUESTS = 100
FIRST_LINES = 200
"""Of the log, for whoever has seen none."""


def look(
    operator: Operator,
    *,
    after: int | None = None,
    may_act: bool = False,
    with_log: bool = True,
    clock: Callable[[], float] = time.time,
) -> Snapshot:
    """As of now, with the log's lines after this number; None: with the last ones."""
    watched = operator.services.watched
    points = watched.live()
    return Snapshot(
        at=round(clock(), 3),
        overview=operator.overview(),
        point=points[-1] if points else None,
        gpus=watched.gauges(),
        requests=operator.services.dispatcher.requests(most=MOST_REQUESTS),
        alerts=watched.alerts(),
        log=_lines(operator, after) if with_log else (),
        may_act=may_act,
    )


def last_line_asked(request: Request) -> int | None:
    """`?after=NUMBER` of the log; None where it is not said, or is no number."""
    text = request.query_params.get("after", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _lines(operator: Operator, after: int | None) -> tuple[LogLine, ...]:
    log = operator.services.watched.log
    return log(0)[-FIRST_LINES:] if after is None else log(after)
