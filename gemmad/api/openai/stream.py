"""A chat completion as server-sent events.

The order is the contract: for each choice a chunk with the role, chunks with text and one with the finish reason, those
of several choices as they come; then one with the usage if it was asked for, and `[DONE]`. A stream that fails ends
with an error event instead, and never looks finished.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from msgspec import Struct
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from gemmad.api.errors import Envelope, answer
from gemmad.api.openai import wire
from gemmad.api.reply import Piece, Reply
from gemmad.errors import GemmadError
from gemmad.logs import get_logger

STALLED_SECONDS = 600.0
"""A client that takes nothing for so long has its stream cut."""

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

    def usage(self, reply: Reply) -> wire.Chunk:
        """The chunk without a choice that `include_usage` asks for."""
        return wire.Chunk(
            self.id, "chat.completion.chunk", self.created, self.model, (), wire.UsageBody.of(reply.usage)
        )


class ReplyStream:
    """The ASGI response. Whatever becomes of the client or of us, the reply is closed when it ends."""

    def __init__(
        self, reply: Reply, head: Head, *, include_usage: bool, ping_seconds: float, ended: Callable[[str | None], None]
    ) -> None:
        """`ended` is told how: the code of the error that ended the stream, or None."""
        self._reply = reply
        self._head = head
        self._include_usage = include_usage
        self._ping_seconds = ping_seconds
        self._ended = ended
        self._error: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream until it ends or the client leaves."""
        response = EventSourceResponse(
            self._events(),
            sep="\n",
            ping=self._ping_seconds,
            ping_message_factory=_ping,
            send_timeout=STALLED_SECONDS,
        )
        try:
            await response(scope, receive, send)
        except SendTimeoutError:
            self._error = "client_stalled"
        finally:
            self._reply.close()
            self._ended(self._error)

    async def _events(self) -> AsyncIterator[bytes]:
        roles = wire.Delta(role="assistant", content="")
        waiting = b"".join(wire.event(self._head.chunk(index, roles)) for index in range(self._reply.size))
        try:
            async with aclosing(self._reply.pieces()) as batches:
                async for pieces in batches:
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
            events = wire.event(self._head.chunk(piece.index, wire.Delta(content=piece.text)))
        if piece.finish is not None:
            events += wire.event(self._head.chunk(piece.index, wire.Delta(), piece.finish.value))
        return events

    def _failure(self, error: Exception) -> bytes:
        told = answer(error).error
        self._error = told.code or "error"
        return wire.event(Envelope(told))


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="still working", sep="\n")
