"""What goes out: chat completions, whole and in chunks, models. Field order and presence are the contract."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gemmad.generation import Usage

FinishWord = Literal["stop", "length"]

_encoder = msgspec.json.Encoder()


class PromptTokensDetails(Struct, frozen=True):
    """How much of the prompt was not computed again."""

    cached_tokens: int


class UsageBody(Struct, frozen=True):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails

    @classmethod
    def of(cls, usage: Usage) -> UsageBody:
        """From our own."""
        return cls(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.prompt_tokens + usage.completion_tokens,
            PromptTokensDetails(usage.cached_tokens),
        )


class Delta(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds. The first has the role and an empty text, the last nothing."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    """`finish_reason` is present, and null, until the end."""

    index: int
    delta: Delta
    logprobs: None
    finish_reason: FinishWord | None


class Chunk(Struct, frozen=True):
    """One event of a stream. `usage` is in the last one only, and only if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: UsageBody | UnsetType = UNSET


class Message(Struct, frozen=True):
    """A whole reply."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class Choice(Struct, frozen=True):
    """A whole reply and how it ended."""

    index: int
    message: Message
    logprobs: None
    finish_reason: FinishWord


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


DONE = b"data: [DONE]\n\n"
