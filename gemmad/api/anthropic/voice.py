"""A reply as the events of Anthropic's streams.

`message_start`; for each block `content_block_start`, deltas and `content_block_stop`, one block after the other;
`message_delta` with the reason and the counts; `message_stop`. Instead of the last two an `error`, if it fails.
"""

from __future__ import annotations

from collections.abc import Callable

from gemmad.api.anthropic import wire
from gemmad.api.anthropic.errors import error_event
from gemmad.api.pieces import CallDelta, Ending, Piece
from gemmad.generation import Usage

_MARK = "text"
_PING = wire.event(wire.Ping())


class MessageVoice:
    """Speaks one choice."""

    def __init__(
        self, message_id: str, *, model: str, max_tokens: int, request_id: str, usage: Callable[[], Usage]
    ) -> None:
        """`max_tokens` as asked for; `usage` as known by now."""
        self._id = message_id
        self._model = model
        self._max_tokens = max_tokens
        self._request_id = request_id
        self._usage = usage
        self._started = False
        self._blocks = 0
        """That have begun."""
        self._call: int | None = None
        """Index of the call that is being said."""
        self._frame: tuple[bytes, bytes] | None = None
        """What stands before and after the text in an event of the block of words that is being said."""
        self._finish: Ending = "stop"
        self._stop: str | None = None

    def begin(self) -> bytes:
        """The message's head, unless a silence had it come before."""
        return b"" if self._started else self._start()

    def say(self, piece: Piece) -> bytes:
        """Events of one piece."""
        events = self._say_text(piece.text) if piece.text else b""
        for delta in piece.calls:
            events += self._say_call(delta)
        if piece.finish is not None:
            events += self._close()
            self._finish, self._stop = piece.finish, piece.stop
        return events

    def end(self, usage: Usage) -> bytes:
        """Reason, counts and the last event."""
        reason = wire.stop_reason(self._finish, stop=self._stop, usage=usage, max_tokens=self._max_tokens)
        delta = wire.MessageDelta(wire.StopDelta(reason, self._stop), wire.UsageBody.of(usage))
        return self.begin() + wire.event(delta) + wire.event(wire.MessageStop())

    def fail(self, error: Exception) -> bytes:
        """The error's own event."""
        return wire.event(error_event(error, request_id=self._request_id))

    def ping(self) -> bytes:
        """Never before the head: some clients want that first."""
        return self.begin() + _PING

    def _start(self) -> bytes:
        self._started = True
        usage = wire.UsageBody.of(self._usage())
        return wire.event(
            wire.MessageStart(wire.MessageBody(self._id, "assistant", self._model, (), None, None, usage))
        )

    def _say_text(self, text: str) -> bytes:
        events = b""
        if self._frame is None:
            events = self._close() + wire.event(wire.BlockStart(self._blocks, wire.TextBlock("")))
            marked = wire.event(wire.BlockDelta(self._blocks, wire.TextDelta(_MARK)))
            before, _, after = marked.rpartition(wire.encode(_MARK))
            self._frame = (before, after)
            self._blocks += 1
        before, after = self._frame
        return events + before + wire.encode(text) + after

    def _say_call(self, delta: CallDelta) -> bytes:
        events = b""
        if delta.id is not None and delta.name is not None:
            events = self._close() + wire.event(wire.BlockStart(self._blocks, wire.ToolUseBlock(delta.id, delta.name)))
            self._call = delta.index
            self._blocks += 1
        assert self._call == delta.index
        if delta.arguments:
            events += wire.event(wire.BlockDelta(self._blocks - 1, wire.InputJsonDelta(delta.arguments)))
        return events

    def _close(self) -> bytes:
        if self._frame is None and self._call is None:
            return b""
        self._frame = self._call = None
        return wire.event(wire.BlockStop(self._blocks - 1))
