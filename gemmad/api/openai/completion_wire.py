"""What goes out as a completion, whole and in chunks: one shape for both. Field order and presence are the contract."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence

from msgspec import UNSET, Struct, UnsetType

from gemmad.api.openai import wire
from gemmad.api.openai.wire import UsageBody, told_logprob
from gemmad.api.pieces import Ending, LikelyToken, Piece, SaidToken
from gemmad.generation import Usage
from gemmad.text.detokenizer import REPLACEMENT

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class TextLogprobs(Struct, frozen=True):
    """Lists of equal length, an entry for each token."""

    text_offset: list[int]
    """Where in the text of the choice it begins."""
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]]
    """Those of the likeliest, and of the token itself."""


class TextChoice(Struct, frozen=True):
    """`finish_reason` is present, and null, until the end."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Ending | None


class TextCompletion(Struct, frozen=True):
    """A whole answer, or one event of a stream."""

    id: str
    object: str
    created: int
    model: str
    choices: tuple[TextChoice, ...]
    usage: UsageBody | UnsetType = UNSET


class TextHead(Struct, frozen=True):
    """What is the same on every chunk of a stream."""

    id: str
    created: int
    model: str

    def body(self, choices: Sequence[TextChoice], usage: Usage | None = None) -> TextCompletion:
        """All of an answer, or of a chunk."""
        told = UNSET if usage is None else UsageBody.of(usage)
        return TextCompletion(self.id, "text_completion", self.created, self.model, tuple(choices), told)


class Offsets:
    """Counts the characters of one choice, token by token: a character of several tokens counts with its last."""

    def __init__(self) -> None:
        self._characters = 0
        self._utf8 = _Utf8Decoder("replace")

    def tell(self, tokens: Sequence[SaidToken]) -> TextLogprobs | None:
        """The lists for the next tokens; None if there are none."""
        if not tokens:
            return None
        return TextLogprobs(
            [self._take(token) for token in tokens],
            [told_logprob(token.logprob) for token in tokens],
            [_name(token) for token in tokens],
            [_top(token) for token in tokens],
        )

    def _take(self, token: SaidToken) -> int:
        before = self._characters
        self._characters += len(self._utf8.decode(token.bytes))
        return before


def _name(token: LikelyToken) -> str:
    """OpenAI's name for a token that is less than a character: `bytes:\\xf0`."""
    if token.text == REPLACEMENT and len(token.bytes) == 1:
        return f"bytes:\\x{token.bytes[0]:02x}"
    return token.text


def _top(token: SaidToken) -> dict[str, float]:
    return {_name(each): told_logprob(each.logprob) for each in (token, *reversed(token.top))}


class TextVoice:
    """A completion as server-sent events: chunks of text, one with the finish reason for each choice, the usage if it
    was asked for, and `[DONE]`."""

    def __init__(self, head: TextHead, *, size: int, echoes: Sequence[str], include_usage: bool) -> None:
        """`echoes` are what stands before the text of each choice, none if nothing does."""
        self._head = head
        self._echoes = echoes
        self._include_usage = include_usage
        self._offsets = [Offsets() for _ in range(size)]

    def begin(self) -> bytes:
        """The prompts, where they are echoed."""
        return b"".join(
            wire.event(self._head.body([TextChoice(index, echo, None, None)]))
            for index, echo in enumerate(self._echoes)
        )

    def say(self, piece: Piece) -> bytes:
        """Chunks of one piece."""
        return b"".join(wire.event(self._head.body([choice])) for choice in self._choices(piece))

    def end(self, usage: Usage) -> bytes:
        """The usage, if it was asked for, and `[DONE]`."""
        return (wire.event(self._head.body([], usage)) if self._include_usage else b"") + wire.DONE

    def fail(self, error: Exception) -> bytes:
        """The error's own body."""
        return wire.failure(error)

    def ping(self) -> bytes:
        """A comment."""
        return wire.PING

    def _choices(self, piece: Piece) -> Iterator[TextChoice]:
        logprobs = self._offsets[piece.index].tell(piece.logprobs)
        if piece.text or logprobs is not None:
            yield TextChoice(piece.index, piece.text, logprobs, None)
        if piece.finish is not None:
            yield TextChoice(piece.index, "", None, piece.finish)
