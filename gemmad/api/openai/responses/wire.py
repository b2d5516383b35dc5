"""What goes out: responses, the events of their streams, lists of items. Field order and presence are the contract."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from gemmad.api.openai.responses.items import FunctionCall, Item, Logprob, Message, OutputText
from gemmad.api.openai.usage import UsageBody

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
OutputItem = Message | FunctionCall

_encoder = msgspec.json.Encoder()


class IncompleteDetails(Struct, frozen=True):
    """Why it ended early."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ErrorDetails(Struct, frozen=True):
    """Why it failed, in the words that OpenAI has for it."""

    code: ErrorCode
    message: str


class TextConfig(Struct, frozen=True):
    """What the text was held to."""

    format: dict[str, Any]
    verbosity: str | None = None


class Reasoning(Struct, frozen=True):
    """As it was asked for."""

    effort: Any = None
    summary: Any = None


class Response(Struct, frozen=True, kw_only=True):
    """The whole of it, at any time of its life."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: ResponseStatus = "in_progress"
    background: bool = False
    completed_at: int | None = None
    error: ErrorDetails | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: None = None
    model: str
    output: tuple[OutputItem, ...] = ()
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: Reasoning = Reasoning()
    safety_identifier: str | None = None
    service_tier: Literal["default"] = "default"
    store: bool = True
    temperature: float = 1.0
    text: TextConfig
    tool_choice: str | dict[str, Any] = "auto"
    tools: tuple[dict[str, Any], ...] = ()
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: Literal["auto", "disabled"] = "disabled"
    usage: UsageBody | None = None
    user: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


class Event(Struct, frozen=True, tag_field="type"):
    """One of a stream. `sequence_number` counts them from 0."""

    sequence_number: int


class Lifecycle(Event, frozen=True):
    """One that has the whole response."""

    response: Response


class Created(Lifecycle, frozen=True, tag="response.created"):
    """The first."""


class Queued(Lifecycle, frozen=True, tag="response.queued"):
    """Nothing has been computed yet."""


class InProgress(Lifecycle, frozen=True, tag="response.in_progress"):
    """It begins."""


class Completed(Lifecycle, frozen=True, tag="response.completed"):
    """The last, if all went well."""


class Incomplete(Lifecycle, frozen=True, tag="response.incomplete"):
    """The last, if it was cut off."""


class Failed(Lifecycle, frozen=True, tag="response.failed"):
    """The last, if it could not be finished."""


class Failure(Event, frozen=True, tag="error"):
    """What went wrong; `response.failed` follows."""

    code: str | None
    message: str
    param: str | None


class ItemAdded(Event, frozen=True, tag="response.output_item.added"):
    """An item begins."""

    output_index: int
    item: OutputItem


class ItemDone(Event, frozen=True, tag="response.output_item.done"):
    """It is whole."""

    output_index: int
    item: OutputItem


class PartAdded(Event, frozen=True, tag="response.content_part.added"):
    """Its text begins."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText


class PartDone(Event, frozen=True, tag="response.content_part.done"):
    """The text, whole."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText


class TextDelta(Event, frozen=True, tag="response.output_text.delta"):
    """More text."""

    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: tuple[Logprob, ...] = ()


class TextDone(Event, frozen=True, tag="response.output_text.done"):
    """The text, whole."""

    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: tuple[Logprob, ...] = ()


class ArgumentsDelta(Event, frozen=True, tag="response.function_call_arguments.delta"):
    """More arguments."""

    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(Event, frozen=True, tag="response.function_call_arguments.done"):
    """The arguments, whole."""

    item_id: str
    output_index: int
    name: str
    arguments: str


class ItemList(Struct, frozen=True):
    """Items that a response was made from."""

    data: tuple[Item, ...]
    first_id: str
    last_id: str
    has_more: bool
    object: Literal["list"] = "list"


class Deleted(Struct, frozen=True):
    """The answer to a deletion."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputTokens(Struct, frozen=True):
    """What a prompt would take."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


def encode(body: Struct) -> bytes:
    """JSON."""
    return _encoder.encode(body)


def sse(event: Event) -> bytes:
    """One server-sent event, named like its type, lines ended by a bare line feed."""
    return b"event: " + _NAMES[type(event)] + b"\ndata: " + _encoder.encode(event) + b"\n\n"


def _named(kind: type[Event]) -> dict[type[Event], bytes]:
    named: dict[type[Event], bytes] = {}
    for each in kind.__subclasses__():
        tag = each.__struct_config__.tag
        if isinstance(tag, str):
            named[each] = tag.encode()
        named |= _named(each)
    return named


_NAMES = _named(Event)
