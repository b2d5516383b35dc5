"""A reply as server-sent events, in whatever dialect its voice speaks.

One task does it all: it waits for the reply, and a timer wakes it when a comment is due. sse-starlette's own response
has a task for each of these and a deadline for each event: half of what a token costs the daemon (decision 14).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from starlette.types import Receive, Scope, Send

from gemmad.api.disconnect import unless_gone
from gemmad.api.errors import ClientGoneError, answer
from gemmad.api.pieces import Voice
from gemmad.api.reply import Reply
from gemmad.errors import GemmadError
from gemmad.logs import get_logger

STALLED_SECONDS = 600.0
"""A client that takes nothing for so long has its stream cut."""

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events
]

_log = get_logger(__name__)


class ReplyStream:
    """The ASGI response. Whatever becomes of the client or of us, the reply is closed when it ends."""

    def __init__(
        self,
        reply: Reply,
        voice: Voice,
        *,
        ping_seconds: float,
        ended: Callable[[str | None], None],
        headers: list[tuple[bytes, bytes]] = HEADERS,
    ) -> None:
        """`ended` is told how: the code of the error that ended the stream, or None."""
        self._reply = reply
        self._voice = voice
        self._ping_seconds = ping_seconds
        self._ended = ended
        self._headers = headers
        self._error: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream until it ends or the client leaves."""
        del scope
        try:
            with suppress(ClientGoneError):
                await unless_gone(receive, self._serve(send))
        except TimeoutError:
            self._error = "client_stalled"
        finally:
            self._reply.close()
            self._ended(self._error)

    async def _serve(self, send: Send) -> None:
        """Raises TimeoutError once the client has taken nothing for too long."""
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        async with asyncio.timeout(None) as patience, aclosing(self._events()) as events:
            pulse = _Pulse(
                self._ping_seconds,
                STALLED_SECONDS,
                on_silence=self._reply.nudge,
                on_stall=lambda: patience.reschedule(0.0),
            )
            try:
                async for event in events:
                    pulse.begin_send()
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                    pulse.end_send()
            finally:
                pulse.stop()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """Bytes to send; none of them is empty."""
        voice, waiting = self._voice, b""
        begun = False
        try:
            async with aclosing(self._reply.pieces()) as batches:
                async for pieces in batches:
                    if not pieces:
                        yield voice.ping()
                        continue
                    if not begun:
                        begun, waiting = True, voice.begin()
                    if events := waiting + b"".join(map(voice.say, pieces)):
                        yield events
                        waiting = b""
            yield voice.end(self._reply.usage)
        except GemmadError as error:
            yield self._failure(error)
        except Exception as error:
            _log.exception("stream crashed")
            yield self._failure(error)

    def _failure(self, error: Exception) -> bytes:
        self._error = answer(error).error.code or "error"
        return self._voice.fail(error)


class _Pulse:
    """Looks every now and then at how long ago the last event went out: at no cost for the event."""

    def __init__(
        self,
        ping_seconds: float,
        stalled_seconds: float,
        *,
        on_silence: Callable[[], None],
        on_stall: Callable[[], None],
    ) -> None:
        """`on_silence` is called after each `ping_seconds` without an event, `on_stall` once when one could not be sent
        for `stalled_seconds`."""
        self._ping_seconds = ping_seconds
        self._stalled_seconds = stalled_seconds
        self._on_silence = on_silence
        self._on_stall = on_stall
        self._loop = asyncio.get_running_loop()
        self._moved_at = self._loop.time()
        self._sends = False
        self._timer = self._loop.call_later(ping_seconds, self._look)

    def begin_send(self) -> None:
        """An event is handed to the server."""
        self._moved_at = self._loop.time()
        self._sends = True

    def end_send(self) -> None:
        """The server has taken it."""
        self._sends = False

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        still_seconds = self._loop.time() - self._moved_at
        if self._sends:
            left = self._stalled_seconds - still_seconds
            if left <= 0:
                self._on_stall()
                return
            left = min(left, self._ping_seconds)
        else:
            left = self._ping_seconds - still_seconds
            if left <= 0:
                self._on_silence()
                left = self._ping_seconds
        self._timer = self._loop.call_later(left, self._look)
