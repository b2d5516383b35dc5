"""What goes out: chat completions, whole and in chunks, models. Field order and presence are the contract."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from sse_starlette import ServerSentEvent

from gemmad.api import pieces
from gemmad.api.errors import Envelope, answer
from gemmad.api.pieces import Ending, LikelyToken, Said, SaidToken
from gemmad.generation import Usage

LEAST_LOGPROB = -9999.0
"""Instead of minus infinity, which JSON does not have; OpenAI's own word for very unlikely."""

_encoder = msgspec.json.Encoder()


def told_logprob(logprob: float) -> float:
    """As JSON can say it."""
    return max(logprob, LEAST_LOGPROB)


class PromptTokensDetails(Struct, frozen=True):
    """How much of the prompt was not computed again."""

    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True):
    """None of the tokens are thoughts: the model was not taught any."""

    reasoning_tokens: int = 0


class UsageBody(Struct, frozen=True):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()

    @classmethod
    def of(cls, usage: Usage) -> UsageBody:
        """From our own."""
        return cls(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.prompt_tokens + usage.completion_tokens,
            PromptTokensDetails(usage.cached_tokens),
        )


class TopLogprob(Struct, frozen=True):
    """A token that was likely at some place."""

    token: str
    bytes: tuple[int, ...]
    logprob: float

    @classmethod
    def of(cls, likely: LikelyToken) -> TopLogprob:
        """From our own."""
        return cls(likely.text, tuple(likely.bytes), told_logprob(likely.logprob))


class TokenLogprob(Struct, frozen=True):
    """A token that was said, and the likeliest at its place."""

    token: str
    bytes: tuple[int, ...]
    logprob: float
    top_logprobs: tuple[TopLogprob, ...]


class ChoiceLogprobs(Struct, frozen=True):
    """Of the tokens of a choice, or of what a chunk adds to it."""

    content: tuple[TokenLogprob, ...]
    refusal: None = None

    @classmethod
    def of(cls, tokens: Iterable[SaidToken]) -> ChoiceLogprobs:
        """From our own."""
        return cls(
            tuple(
                TokenLogprob(
                    token.text, tuple(token.bytes), told_logprob(token.logprob), tuple(map(TopLogprob.of, token.top))
                )
                for token in tokens
            )
        )


class FunctionDelta(Struct, frozen=True, omit_defaults=True):
    """The name in the first of a call only."""

    arguments: str
    name: str | UnsetType = UNSET


class CallDelta(Struct, frozen=True, omit_defaults=True):
    """More of a call: SDKs add strings up, so id and type come once."""

    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET

    @classmethod
    def of(cls, delta: pieces.CallDelta) -> CallDelta:
        """From our own."""
        if delta.id is None or delta.name is None:
            return cls(delta.index, FunctionDelta(delta.arguments))
        return cls(delta.index, FunctionDelta(delta.arguments, delta.name), delta.id, "function")


class Delta(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds. The first has the role and an empty text, the last nothing."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: tuple[CallDelta, ...] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    """`finish_reason` is present, and null, until the end."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None
    finish_reason: Ending | None


class Chunk(Struct, frozen=True):
    """One event of a stream. `usage` is in the last one only, and only if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: UsageBody | UnsetType = UNSET


class FunctionCalled(Struct, frozen=True):
    """A function and the JSON text of its arguments."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True):
    """A whole call."""

    id: str
    function: FunctionCalled
    type: Literal["function"] = "function"


class Message(Struct, frozen=True):
    """A whole reply; without any text but calls, `content` is null."""

    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    tool_calls: tuple[ToolCall, ...] | UnsetType = UNSET

    @classmethod
    def of(cls, said: Said) -> Message:
        """From our own."""
        if not said.calls:
            return cls("assistant", said.text)
        calls = tuple(ToolCall(call.id, FunctionCalled(call.name, call.arguments)) for call in said.calls)
        return cls("assistant", said.text or None, tool_calls=calls)


class Choice(Struct, frozen=True):
    """A whole reply and how it ended."""

    index: int
    message: Message
    logprobs: ChoiceLogprobs | None
    finish_reason: Ending

    @classmethod
    def of(cls, index: int, said: Said) -> Choice:
        """From our own."""
        logprobs = None if said.logprobs is None else ChoiceLogprobs.of(said.logprobs)
        return cls(index, Message.of(said), logprobs, said.finish)


class Completion(Struct, frozen=True):
    """The answer to a request that does not stream."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: UsageBody


class Model(Struct, frozen=True):
    """One entry of `/v1/models`; editors read `max_model_len`."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "gemmad"
    root: str | None = None
    parent: None = None
    max_model_len: int | None = None
    capabilities: tuple[str, ...] | UnsetType = UNSET
    """As Ollama calls them; unknown while the model is being read."""


class ModelList(Struct, frozen=True):
    """`/v1/models`."""

    data: tuple[Model, ...]
    object: Literal["list"] = "list"


def encode(body: Struct | str) -> bytes:
    """JSON."""
    return _encoder.encode(body)


def event(body: Struct) -> bytes:
    """JSON as one server-sent event, lines ended by a bare line feed."""
    return b"data: " + _encoder.encode(body) + b"\n\n"


def failure(error: Exception) -> bytes:
    """The event that ends a stream instead of `DONE`."""
    return event(Envelope(answer(error).error))


DONE = b"data: [DONE]\n\n"
PING = ServerSentEvent(comment="still working", sep="\n").encode()
