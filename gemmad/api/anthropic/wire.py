"""What goes out: a message, whole and in events, and counts. Field order and presence are the contract."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from gemmad.api.pieces import Ending, Said
from gemmad.api.whole import is_object
from gemmad.generation import Usage

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]

_encoder = msgspec.json.Encoder()
_NO_ARGUMENTS = msgspec.Raw(b"{}")


class UsageBody(Struct, frozen=True):
    """Token counts. The prompt is `input_tokens` and `cache_read_input_tokens` together."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> UsageBody:
        """From our own."""
        return cls(usage.prompt_tokens - usage.cached_tokens, 0, usage.cached_tokens, usage.completion_tokens)


class TextBlock(Struct, frozen=True, tag_field="type", tag="text"):
    """Words."""

    text: str


class ToolUseBlock(Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call."""

    id: str
    name: str
    input: msgspec.Raw = _NO_ARGUMENTS
    """A JSON object, as it was said."""


ContentBlock = TextBlock | ToolUseBlock


class MessageBody(Struct, frozen=True, tag_field="type", tag="message"):
    """A reply; at the start of a stream an empty one."""

    id: str
    role: Literal["assistant"]
    model: str
    content: tuple[ContentBlock, ...]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: UsageBody


class MessageStart(Struct, frozen=True, tag_field="type", tag="message_start"):
    """The first event."""

    message: MessageBody


class BlockStart(Struct, frozen=True, tag_field="type", tag="content_block_start"):
    """A block begins, with nothing in it yet."""

    index: int
    content_block: ContentBlock


class TextDelta(Struct, frozen=True, tag_field="type", tag="text_delta"):
    """More words."""

    text: str


class InputJsonDelta(Struct, frozen=True, tag_field="type", tag="input_json_delta"):
    """More of a call's arguments."""

    partial_json: str


class BlockDelta(Struct, frozen=True, tag_field="type", tag="content_block_delta"):
    """A block grows."""

    index: int
    delta: TextDelta | InputJsonDelta


class BlockStop(Struct, frozen=True, tag_field="type", tag="content_block_stop"):
    """A block is whole."""

    index: int


class StopDelta(Struct, frozen=True):
    """How the message ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(Struct, frozen=True, tag_field="type", tag="message_delta"):
    """The message is whole; the counts are those of all of it."""

    delta: StopDelta
    usage: UsageBody


class MessageStop(Struct, frozen=True, tag_field="type", tag="message_stop"):
    """The last event."""


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    """Nothing to say yet."""


class ErrorDetails(Struct, frozen=True):
    """For programs."""

    error_code: str


class ErrorBody(Struct, frozen=True, omit_defaults=True):
    """What went wrong."""

    type: str
    message: str
    details: ErrorDetails | None = None


class ErrorEvent(Struct, frozen=True, tag_field="type", tag="error"):
    """A whole answer, or the last event of a stream that failed."""

    error: ErrorBody
    request_id: str


class TokenCount(Struct, frozen=True):
    """What `count_tokens` answers."""

    input_tokens: int


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | ErrorEvent


def encode(body: Struct | str) -> bytes:
    """JSON."""
    return _encoder.encode(body)


def event(body: Event) -> bytes:
    """One server-sent event, lines ended by a bare line feed. Its name is its type."""
    return f"event: {body.__struct_config__.tag}\ndata: ".encode() + _encoder.encode(body) + b"\n\n"


def stop_reason(finish: Ending, *, stop: str | None, usage: Usage, max_tokens: int) -> StopReason:
    """Fewer tokens than were allowed: it was the context that had no room for more."""
    if finish == "tool_calls":
        return "tool_use"
    if finish == "length":
        return "max_tokens" if usage.completion_tokens >= max_tokens else "model_context_window_exceeded"
    return "end_turn" if stop is None else "stop_sequence"


def content(said: Said) -> tuple[ContentBlock, ...]:
    """Blocks of a whole reply: words if there are any, then calls; one that was cut off is left out."""
    words: tuple[ContentBlock, ...] = (TextBlock(said.text),) if said.text else ()
    calls = (
        ToolUseBlock(call.id, call.name, msgspec.Raw(call.arguments.encode() or b"{}"))
        for call in said.calls
        if is_object(call.arguments)
    )
    return (*words, *calls)
