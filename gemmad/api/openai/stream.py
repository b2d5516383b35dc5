"""A chat completion as server-sent events.

The order is the contract: for each choice a chunk with the role, chunks with text and calls, and one with the finish
reason, those of several choices as they come; then one with the usage if it was asked for, and `[DONE]`. A stream that
fails ends with an error event instead, and never looks finished. A stream that has been silent for a while says so in a
comment.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from gemmad.api.openai import wire
from gemmad.api.pieces import Ending, Piece
from gemmad.generation import Usage

_MARK = "text"


class Head(Struct, frozen=True):
    """What is the same on every chunk of a stream."""

    id: str
    created: int
    model: str

    def chunk(
        self,
        index: int,
        delta: wire.Delta,
        *,
        finish: Ending | None = None,
        logprobs: wire.ChoiceLogprobs | None = None,
    ) -> wire.Chunk:
        """A chunk of one choice."""
        choices = (wire.ChunkChoice(index, delta, logprobs, finish),)
        return wire.Chunk(self.id, "chat.completion.chunk", self.created, self.model, choices)

    def frame(self, index: int) -> tuple[bytes, bytes]:
        """What stands before and after the text, as JSON, in the event of a chunk that has nothing else to say."""
        before, _, after = wire.event(self.chunk(index, wire.Delta(content=_MARK))).rpartition(wire.encode(_MARK))
        return before, after

    def usage(self, usage: Usage) -> wire.Chunk:
        """The chunk without a choice that `include_usage` asks for."""
        return wire.Chunk(self.id, "chat.completion.chunk", self.created, self.model, (), wire.UsageBody.of(usage))


class ChatVoice:
    """Events of text alone, nearly all there are, are put together from a frame that is encoded once a choice."""

    def __init__(self, head: Head, *, size: int, include_usage: bool) -> None:
        """`size` is the number of choices."""
        self._head = head
        self._include_usage = include_usage
        self._frames = [head.frame(index) for index in range(size)]

    def begin(self) -> bytes:
        """The roles."""
        roles = wire.Delta(role="assistant", content="")
        return b"".join(wire.event(self._head.chunk(index, roles)) for index in range(len(self._frames)))

    def say(self, piece: Piece) -> bytes:
        """Chunks of one piece."""
        events = b""
        if piece.calls or piece.logprobs:
            events = b"".join(map(wire.event, self._full(piece)))
        elif piece.text:
            before, after = self._frames[piece.index]
            events = before + wire.encode(piece.text) + after
        if piece.finish is not None:
            events += wire.event(self._head.chunk(piece.index, wire.Delta(), finish=piece.finish))
        return events

    def _full(self, piece: Piece) -> Iterator[wire.Chunk]:
        """Text and each part of a call in chunks of their own, since clients read the first of `tool_calls` alone; the
        log-probabilities of all are with the first."""
        logprobs = wire.ChoiceLogprobs.of(piece.logprobs) if piece.logprobs else None
        if piece.text or not piece.calls:
            yield self._head.chunk(piece.index, wire.Delta(content=piece.text), logprobs=logprobs)
            logprobs = None
        for call in piece.calls:
            calls = (wire.CallDelta.of(call),)
            yield self._head.chunk(piece.index, wire.Delta(tool_calls=calls), logprobs=logprobs)
            logprobs = None

    def end(self, usage: Usage) -> bytes:
        """The usage, if it was asked for, and `[DONE]`."""
        return (wire.event(self._head.usage(usage)) if self._include_usage else b"") + wire.DONE

    def fail(self, error: Exception) -> bytes:
        """The error's own body."""
        return wire.failure(error)

    def ping(self) -> bytes:
        """A comment."""
        return wire.PING
