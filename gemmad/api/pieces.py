"""What a reply is made of on its way to a client, and who puts it in the client's words."""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

from gemmad.generation import Usage
from gemmad.text.calls import Call, CallDelta

__all__ = ["Call", "CallDelta", "Ending", "LikelyToken", "Piece", "Said", "SaidToken", "Voice"]

Ending = Literal["stop", "length", "tool_calls"]
"""How a choice ended; each dialect has its own words for these."""


class LikelyToken(Struct, frozen=True):
    """A token and its log-probability."""

    text: str
    """Its own text; incomplete characters are replacement characters."""
    bytes: bytes
    logprob: float


class SaidToken(LikelyToken, frozen=True):
    """One that was drawn, with the likeliest at its place, the likeliest first."""

    top: tuple[LikelyToken, ...] = ()


class Piece(Struct, frozen=True):
    """What a choice says: some text, parts of calls, its end, or several of these."""

    index: int
    """Of the choice."""
    text: str = ""
    finish: Ending | None = None
    calls: tuple[CallDelta, ...] = ()
    logprobs: tuple[SaidToken, ...] = ()
    """Of the tokens that made this piece, if they were asked for."""
    stop: str | None = None
    """The stop string that ended it, with `finish`."""


class Said(Struct, frozen=True):
    """A whole choice."""

    text: str
    finish: Ending
    calls: tuple[Call, ...] = ()
    """Those that are whole."""
    logprobs: tuple[SaidToken, ...] | None = None
    stop: str | None = None


class Voice(Protocol):
    """Puts one streamed reply into a dialect's events, as bytes of `text/event-stream`. It keeps what it needs to know
    between calls; nothing of it waits."""

    def begin(self) -> bytes:
        """Sent together with the first piece."""

    def say(self, piece: Piece) -> bytes:
        """Events of one piece; may be empty."""

    def end(self, usage: Usage) -> bytes:
        """After the last choice has ended."""

    def fail(self, error: Exception) -> bytes:
        """Instead of `end`: the client must not take the reply for a finished one."""

    def ping(self) -> bytes:
        """Sent in a silence."""
