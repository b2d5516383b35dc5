"""What goes out: replies, whole and in lines, and what is served. Field order and presence are the contract."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gemmad.api.pieces import Call, Ending, SaidToken
from gemmad.api.whole import is_object

DoneReason = Literal["stop", "length", "load", "unload"]

_encoder = msgspec.json.Encoder()


class LikelyToken(Struct, frozen=True):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


class TokenLogprob(LikelyToken, frozen=True):
    """One that was drawn, with the likeliest at its place."""

    top_logprobs: tuple[LikelyToken, ...] = ()


class CalledFunction(Struct, frozen=True):
    """Which, and with what."""

    index: int
    name: str
    arguments: msgspec.Raw
    """A JSON object, as it was said."""


class ToolCall(Struct, frozen=True):
    """A whole call: Ollama never tells one in parts."""

    id: str
    function: CalledFunction


class Message(Struct, frozen=True, omit_defaults=True):
    """What was said."""

    role: Literal["assistant"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


class Final(Struct, frozen=True):
    """What only the last line has. Durations are nanoseconds."""

    done_reason: DoneReason
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


class Line(Struct, frozen=True, omit_defaults=True):
    """A line of a stream, or a whole answer: `message` for a chat, `response` for what goes on from a prompt."""

    model: str
    created_at: str
    done: bool
    message: Message | UnsetType = UNSET
    response: str | UnsetType = UNSET
    logprobs: tuple[TokenLogprob, ...] = ()
    done_reason: DoneReason | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class Details(Struct, frozen=True):
    """What kind of model it is."""

    parent_model: str
    format: str
    family: str
    families: tuple[str, ...]
    parameter_size: str
    quantization_level: str


class Tag(Struct, frozen=True):
    """One entry of `/api/tags`."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(Struct, frozen=True):
    """`/api/tags`."""

    models: tuple[Tag, ...]


class Running(Struct, frozen=True):
    """One entry of `/api/ps`."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int


class RunningList(Struct, frozen=True):
    """`/api/ps`."""

    models: tuple[Running, ...]


class Show(Struct, frozen=True):
    """`/api/show`."""

    license: str
    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, str | int]
    capabilities: tuple[str, ...]
    modified_at: str


class Version(Struct, frozen=True):
    """`/api/version`."""

    version: str


def encode(body: Struct) -> bytes:
    """JSON."""
    return _encoder.encode(body)


def line(body: Struct) -> bytes:
    """JSON on a line of its own."""
    return _encoder.encode(body) + b"\n"


def stamp(seconds: float) -> str:
    """Seconds since the epoch as Ollama writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def done_reason(finish: Ending) -> DoneReason:
    """Ollama has no word of its own for calls."""
    return "length" if finish == "length" else "stop"


def tool_calls(calls: Iterable[Call], *, first: int = 0) -> tuple[ToolCall, ...]:
    """Calls, counted from `first`; one that was cut off is left out."""
    return tuple(
        ToolCall(call.id, CalledFunction(index, call.name, msgspec.Raw(call.arguments.encode() or b"{}")))
        for index, call in enumerate((call for call in calls if is_object(call.arguments)), first)
    )


def logprobs(tokens: Iterable[SaidToken]) -> tuple[TokenLogprob, ...]:
    """As they were drawn."""
    return tuple(
        TokenLogprob(
            token.text,
            token.logprob,
            tuple(token.bytes),
            tuple(LikelyToken(likely.text, likely.logprob, tuple(likely.bytes)) for likely in token.top),
        )
        for token in tokens
    )
