"""A reply as Ollama's lines of JSON: words as they come, each call once it is whole, and at last how it went.

There are no comments in such a stream: what is sent in a silence is a line without words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from gemmad.api.ollama import wire
from gemmad.api.ollama.errors import error_body
from gemmad.api.pieces import Call, CallDelta, Ending, Piece, SaidToken
from gemmad.api.whole import is_object
from gemmad.generation import Usage

HEADERS = [
    (b"content-type", b"application/x-ndjson"),
    (b"cache-control", b"no-store"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the lines
]


class Manner(Struct, frozen=True):
    """How the lines of one reply are made."""

    model: str
    """As the client called it."""
    chat: bool
    """A message, or with `/api/generate` a response."""
    clock: Callable[[], float] = time.time

    def said(self, text: str, calls: tuple[wire.ToolCall, ...] = (), tokens: Sequence[SaidToken] = ()) -> wire.Line:
        """A line with something in it, or nothing."""
        return wire.Line(
            self.model,
            wire.stamp(self.clock()),
            done=False,
            message=wire.Message("assistant", text, calls) if self.chat else msgspec.UNSET,
            response=msgspec.UNSET if self.chat else text,
            logprobs=wire.logprobs(tokens),
        )

    def done(self, line: wire.Line, final: wire.Final) -> wire.Line:
        """The last line, or the whole answer."""
        return msgspec.structs.replace(line, done=True, **msgspec.structs.asdict(final))


class LineVoice:
    """Speaks one choice."""

    def __init__(self, manner: Manner, *, final: Callable[[Ending, Usage], wire.Final]) -> None:
        """`final` tells how it went, once it has ended."""
        self._manner = manner
        self._final = final
        self._finish: Ending = "stop"
        self._calls = 0
        """That have been told."""
        self._head: CallDelta | None = None
        """The beginning of the call that is being said."""
        self._arguments: list[str] = []

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def say(self, piece: Piece) -> bytes:
        """Lines of one piece."""
        lines = b""
        if piece.text or piece.logprobs:
            lines = wire.line(self._manner.said(piece.text, tokens=piece.logprobs))
        for delta in piece.calls:
            if delta.id is not None:
                lines += self._tell_call()
                self._head = delta
            self._arguments.append(delta.arguments)
        if piece.finish is not None:
            self._finish = piece.finish
            lines += self._tell_call()
        return lines

    def end(self, usage: Usage) -> bytes:
        """How it went."""
        return wire.line(self._manner.done(self._manner.said(""), self._final(self._finish, usage)))

    def fail(self, error: Exception) -> bytes:
        """The error's own line."""
        return error_body(error) + b"\n"

    def ping(self) -> bytes:
        """A line without words."""
        return wire.line(self._manner.said(""))

    def _tell_call(self) -> bytes:
        """The call that has been said; one that was cut off is never told."""
        head, arguments = self._head, "".join(self._arguments)
        self._head = None
        self._arguments.clear()
        if head is None or head.id is None or head.name is None or not is_object(arguments):
            return b""
        calls = wire.tool_calls([Call(head.id, head.name, arguments)], first=self._calls)
        self._calls += 1
        return wire.line(self._manner.said("", calls))
