"""The event stream of the dashboard: one look a second for all who listen, and none while nobody does.

A snapshot is built and encoded once and the same bytes go to everyone; a timer does it, so there is no task to be
ended. A listener holds one event at most: who is slow to take it finds the next one in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from contextvars import Context

import msgspec
from starlette.types import Receive, Scope, Send

from gemmad.api.dashboard.look import look
from gemmad.api.dashboard.snapshot import LivePoints, Snapshot
from gemmad.api.disconnect import unless_gone
from gemmad.api.errors import ClientGoneError
from gemmad.api.operator import Operator
from gemmad.api.stream import HEADERS
from gemmad.errors import UnavailableError
from gemmad.logs import get_logger

MOST_LISTENERS = 64
EVERY_SECONDS = 1.0
STALLED_SECONDS = 60.0
"""A listener that takes nothing for so long is cut off, and its place is free."""
RETRY_SECONDS = 10.0
PING = b": ping\n\n"
EVENT_HEADERS = [*HEADERS, (b"x-content-type-options", b"nosniff")]

_NOBODY_MAY = b'"may_act":false}'
_SOME_MAY = b'"may_act":true}'

_log = get_logger(__name__)


class Listener:
    """One who listens, and the event that waits for them."""

    def __init__(self, *, may_act: bool) -> None:
        self.may_act = may_act
        self._waiting: bytes | None = None
        self._over = False
        self._bell = asyncio.Event()

    def offer(self, event: bytes) -> None:
        """In place of what was not taken yet."""
        self._waiting = event
        self._bell.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._over = True
        self._bell.set()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """What is offered, as far as it is taken in time; ends when it is over."""
        while not self._over:
            await self._bell.wait()
            self._bell.clear()
            event, self._waiting = self._waiting, None
            if event is not None and not self._over:
                yield event


class Feed:
    """The only one who looks, and who knows the listeners."""

    def __init__(self, operator: Operator, *, most: int = MOST_LISTENERS, every_seconds: float = EVERY_SECONDS) -> None:
        self._operator = operator
        self._most = most
        self._every_seconds = every_seconds
        self._listeners: dict[Listener, Callable[[], bool]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last_line = 0
        """Of the log, that those who listen have been told of."""
        self._opening: dict[bool, bytes] = {}
        """What a newcomer is told, until the next look."""
        self._closed = False

    @contextlib.contextmanager
    def listen(self, *, may_act: bool, is_welcome: Callable[[], bool]) -> Iterator[Listener]:
        """Be told, from the last minutes on. `is_welcome` is asked each second, and no ends it.

        Raises UnavailableError when there are too many, and at the end of the daemon.
        """
        if self._closed or len(self._listeners) >= self._most:
            words = "stops" if self._closed else f"has {self._most} listeners already"
            raise UnavailableError(f"The dashboard's feed {words}.", retry_after_seconds=RETRY_SECONDS)
        listener = Listener(may_act=may_act)
        listener.offer(self._open_for(may_act))
        self._listeners[listener] = is_welcome
        if self._timer is None:
            self._set_timer(asyncio.get_running_loop().time() + self._every_seconds)
        try:
            yield listener
        finally:
            self._listeners.pop(listener, None)
            if not self._listeners:
                self._rest()

    def close(self) -> None:
        """The daemon stops: everyone's stream ends, and nobody new is taken."""
        self._closed = True
        for listener in self._listeners:
            listener.end()
        self._rest()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._opening.clear()

    def _set_timer(self, due: float) -> None:
        """In a context of its own: what is logged then is not of the request of whoever listens first."""
        self._timer = asyncio.get_running_loop().call_at(due, self._tick, due, context=Context())

    def _tick(self, due: float) -> None:
        """Look, tell everyone, and set the timer for the next time. After a stall there is one look and not many."""
        self._set_timer(max(due + self._every_seconds, asyncio.get_running_loop().time()))
        for listener in [listener for listener, is_welcome in self._listeners.items() if not is_welcome()]:
            listener.end()
        try:
            events = self._look(after=self._last_line)
        except Exception:  # a fault of ours in here is no reason to fall silent for good
            _log.exception("dashboard cannot look")
            events = {True: PING, False: PING}
        for listener in self._listeners:
            listener.offer(events[listener.may_act])

    def _look(self, *, after: int) -> dict[bool, bytes]:
        """The event for those who may act, and for those who may not."""
        self._operator.services.watched.looked_at()
        self._opening.clear()
        snapshot = look(self._operator, after=after)
        if snapshot.log:
            self._last_line = snapshot.log[-1].number
        return _events(snapshot)

    def _open_for(self, may_act: bool) -> bytes:
        """The last minutes, and how it is now. Those who come within one second are told the same.

        With others there the log ends where they know it to: what came later is told to all at the next look.
        """
        if not self._opening:
            watched = self._operator.services.watched
            watched.looked_at()
            snapshot = look(self._operator)
            if self._listeners:
                known = tuple(line for line in snapshot.log if line.number <= self._last_line)
                snapshot = msgspec.structs.replace(snapshot, log=known)
            elif snapshot.log:
                self._last_line = snapshot.log[-1].number
            points = b"event: live\ndata: " + msgspec.json.encode(LivePoints(watched.live())) + b"\n\n"
            self._opening = {known: points + event for known, event in _events(snapshot).items()}
        return self._opening[may_act]


def _events(snapshot: Snapshot) -> dict[bool, bytes]:
    """Both variants of one encoding: `may_act` is the last field of all."""
    body = b"event: snapshot\ndata: " + msgspec.json.encode(snapshot)
    assert body.endswith(_NOBODY_MAY)
    return {False: body + b"\n\n", True: body.removesuffix(_NOBODY_MAY) + _SOME_MAY + b"\n\n"}


class EventStream:
    """The ASGI response of one listener."""

    def __init__(
        self,
        feed: Feed,
        *,
        may_act: bool,
        is_welcome: Callable[[], bool],
        stalled_seconds: float = STALLED_SECONDS,
    ) -> None:
        self._feed = feed
        self._may_act = may_act
        self._is_welcome = is_welcome
        self._stalled_seconds = stalled_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the listener leaves or the feed ends. Raises UnavailableError before the first."""
        del scope
        listening = self._feed.listen(may_act=self._may_act, is_welcome=self._is_welcome)
        with listening as listener, suppress(ClientGoneError, TimeoutError):
            await unless_gone(receive, self._serve(listener, send))

    async def _serve(self, listener: Listener, send: Send) -> None:
        """Raises TimeoutError once the listener has taken nothing for too long."""
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS})
        async with aclosing(listener.events()) as events:
            async for event in events:
                async with asyncio.timeout(self._stalled_seconds):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
