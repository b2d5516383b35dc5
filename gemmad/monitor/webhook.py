"""Alerts, posted as JSON to whoever wants to be woken.

One post at a time, in their order, from a bounded queue; each is tried a few times and then given up. A receiver that
is slow, gone or broken costs the daemon nothing but a line in the log. Nothing that it answers is read but its status.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gemmad.config.schema import MonitorSection
from gemmad.logs import get_logger
from gemmad.monitor.thresholds import Change

if TYPE_CHECKING:
    import httpx

QUEUE_LIMIT = 64
PAUSES_SECONDS = (1.0, 5.0, 30.0)
"""Before each further try."""
_AGAIN = frozenset({408, 425, 429})
"""Statuses below 500 that say: later."""

log = get_logger(__name__)


class Post(Struct, frozen=True, kw_only=True):
    """The body of a post: docs/monitoring.md has its fields. `text` says it all to a chat's webhook."""

    text: str
    event: str
    """begins, rises or ends"""
    level: str
    about: str
    worker: str | None
    share: float
    words: str
    action: str
    since_seconds: float
    at: float
    """Seconds since the epoch."""
    host: str
    version: str


class Webhook:
    """`post` hands over, `run` posts."""

    def __init__(
        self,
        *,
        section: Callable[[], MonitorSection],
        host: str,
        version: str,
        wall: Callable[[], float] = time.time,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        """`host` and `version` are told with each alert."""
        self._section = section
        self._host = host
        self._version = version
        self._wall = wall
        self._pauses = tuple(pauses_seconds)
        self._queue: asyncio.Queue[Post] = asyncio.Queue(QUEUE_LIMIT)

    def post(self, change: Change) -> None:
        """Have it posted, if there is somebody to post it to; never waits."""
        if self._section().webhook is None:
            return
        try:
            self._queue.put_nowait(self._worded(change))
        except asyncio.QueueFull:
            log.warning("alert not posted", reason="too many wait", about=change.alert.about)

    async def run(self) -> None:
        """Until cancelled; what waits then is lost."""
        post = await self._queue.get()
        httpx = await asyncio.to_thread(importlib.import_module, "httpx")  # a fifth of a second, once it is needed
        async with httpx.AsyncClient(follow_redirects=False) as client:
            while True:
                await self._deliver(client, post)
                post = await self._queue.get()

    async def _deliver(self, client: httpx.AsyncClient, post: Post) -> None:
        reason = ""
        for pause in (0.0, *self._pauses):
            await asyncio.sleep(pause)
            section = self._section()
            if section.webhook is None:  # taken away meanwhile
                return
            reason, is_final = await _try(client, section.webhook, post, timeout_seconds=section.webhook_timeout)
            if not reason:
                log.debug("alert posted", about=post.about, webhook_event=post.event)
                return
            if is_final:
                break
        url = section.webhook
        log.warning("alert not posted", reason=reason, to=urlsplit(url).hostname, about=post.about)

    def _worded(self, change: Change) -> Post:
        alert = change.alert
        said = {"begins": alert.level, "rises": f"now {alert.level}", "ends": "over"}[change.event]
        action = "" if change.event == "ends" else f". To do: {alert.action}"
        return Post(
            text=f"gemmad on {self._host}: {said}: {alert.words}{action}.",
            event=change.event,
            level=alert.level,
            about=alert.about,
            worker=alert.worker,
            share=alert.share,
            words=alert.words,
            action=alert.action,
            since_seconds=alert.since_seconds,
            at=round(self._wall(), 3),
            host=self._host,
            version=self._version,
        )


async def _try(client: httpx.AsyncClient, url: str, post: Post, *, timeout_seconds: float) -> tuple[str, bool]:
    """Why it did not work, empty if it did, and whether it never will. The reason names no URL: its path may be the
    receiver's secret."""
    import httpx

    headers = {"Content-Type": "application/json", "User-Agent": f"gemmad/{post.version}"}
    try:
        async with asyncio.timeout(timeout_seconds):
            body = msgspec.json.encode(post)
            async with client.stream("POST", url, content=body, headers=headers, timeout=timeout_seconds) as response:
                status = response.status_code
    except TimeoutError:
        return f"no answer within {timeout_seconds:g} s", False
    except httpx.HTTPError as error:
        return type(error).__name__, False
    if 200 <= status < 300:
        return "", True
    return f"HTTP {status}", status < 500 and status not in _AGAIN
