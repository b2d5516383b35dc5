"""A chat completion as server-sent events.

The order is the contract: for each choice a chunk with the role, chunks with text and one with the finish reason, those
of several choices as they come; then one with the usage if it was asked for, and `[DONE]`. A stream that fails ends
with an error event instead, and never looks finished. A stream that has been silent for a while says so in a comment.

One task does it all: it waits for the reply, and a timer wakes it when a comment is due. sse-starlette's own response
has a task for each of these and a deadline for each event: half of what a token costs the daemon (decision 14).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from msgspec import Struct
from sse_starlette import ServerSentEvent
from starlette.types import Receive, Scope, Send

from gemmad.api.disconnect import unless_gone
from gemmad.api.errors import ClientGoneError, Envelope, answer
from gemmad.api.openai import wire
from gemmad.api.reply import Piece, Reply
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
PING = ServerSentEvent(comment="still working", sep="\n").encode()
_MARK = "text"

_log = get_logger(__name__)


class Head(Struct, frozen=True):
    """What is the same on every chunk of a stream."""

    id: str
    created: int
    model: str

    def chunk(self, index: int, delta: wire.Delta, finish: wire.FinishWord | None = None) -> wire.Chunk:
        """A chunk of one choice."""
        choices = (wire.ChunkChoice(index, delta, None, finish),)
        return wire.Chunk(self.id, "chat.completion.chunk", self.created, self.model, choices)

    def frame(self, index: int) -> tuple[bytes, bytes]:
        """What stands before and after the text, as JSON, in the event of a chunk that has nothing else to say."""
        before, _, after = wire.event(self.chunk(index, wire.Delta(content=_MARK))).rpartition(wire.encode(_MARK))
        return before, after

    def usage(self, reply: Reply) -> wire.Chunk:
        """The chunk without a choice that `include_usage` asks for."""
        return wire.Chunk(
            self.id, "chat.completion.chunk", self.created, self.model, (), wire.UsageBody.of(reply.usage)
        )


class ReplyStream:
    """The ASGI response. Whatever becomes of the client or of us, the reply is closed when it ends."""

    def __init__(
        self,
        reply: Reply,
        head: Head,
        *,
        include_usage: bool,
        ping_seconds: float,
        ended: Callable[[str | None], None],
    ) -> None:
        """`ended` is told how: the code of the error that ended the stream, or None."""
        self._reply = reply
        self._head = head
        self._include_usage = include_usage
        self._ping_seconds = ping_seconds
        self._ended = ended
        self._error: str | None = None
        self._frames = [head.frame(index) for index in range(reply.size)]

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
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
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
        roles = wire.Delta(role="assistant", content="")
        waiting = b"".join(wire.event(self._head.chunk(index, roles)) for index in range(self._reply.size))
        try:
            async with aclosing(self._reply.pieces()) as batches:
                async for pieces in batches:
                    if not pieces:
                        yield PING
                        continue
                    yield waiting + b"".join(map(self._events_of, pieces))
                    waiting = b""
            if self._include_usage:
                waiting += wire.event(self._head.usage(self._reply))
            yield waiting + wire.DONE
        except GemmadError as error:
            yield self._failure(error)
        except Exception as error:
            _log.exception("stream crashed", id=self._head.id)
            yield self._failure(error)

    def _events_of(self, piece: Piece) -> bytes:
        events = b""
        if piece.text:
            before, after = self._frames[piece.index]
            events = before + wire.encode(piece.text) + after
        if piece.finish is not None:
            events += wire.event(self._head.chunk(piece.index, wire.Delta(), piece.finish.value))
        return events

    def _failure(self, error: Exception) -> bytes:
        told = answer(error).error
        self._error = told.code or "error"
        return wire.event(Envelope(told))


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
