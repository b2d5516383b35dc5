"""What comes in: the fields of Anthropic's Messages API that are honoured, their types and bounds.

Types are strict. Anything else is ignored; what would change the reply and cannot is in `parameters.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, ValidationError

from gemmad.api.openai.schema import MAX_MESSAGES, MAX_PARTS, MAX_STOPS, Fields, Int, Stop, fault

MAX_TOOLS = 512
_KINDS = (
    "text",
    "image",
    "document",
    "search_result",
    "tool_use",
    "tool_result",
    "thinking",
    "redacted_thinking",
)

F = TypeVar("F", bound=Fields)


def _shape(value: Any) -> str | None:
    if isinstance(value, str):
        return "<string>"
    return "<list>" if isinstance(value, list) else None


def _kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if isinstance(kind, str) else None


class TextBlock(Fields):
    """Words."""

    type: Literal["text"]
    text: str


class Base64Source(Fields):
    """What kind of picture it is shows in its first bytes: `media_type` is not looked at."""

    type: Literal["base64"]
    data: Annotated[str, Field(min_length=1)]


class UrlSource(Fields):
    """A picture to be fetched."""

    type: Literal["url"]
    url: Annotated[str, Field(min_length=1)]


ImageSource = Annotated[
    Annotated[Base64Source, Tag("<base64>")] | Annotated[UrlSource, Tag("<url>")],
    Discriminator(
        _kind,
        custom_error_type="source_kind",
        custom_error_message="expected an object whose 'type' is 'base64' or 'url'",
    ),
]


class ImageBlock(Fields):
    """A picture."""

    type: Literal["image"]
    source: ImageSource


class PlainSource(Fields):
    """A document's text."""

    type: Literal["text"]
    data: str


class DocumentBlock(Fields):
    """A document that is plain text."""

    type: Literal["document"]
    source: PlainSource
    title: str | None = None
    context: str | None = None


class SearchResultBlock(Fields):
    """Something that the client has found."""

    type: Literal["search_result"]
    source: str
    title: str
    content: Annotated[list[TextBlock], Field(fail_fast=True, max_length=MAX_PARTS)]


class ToolUseBlock(Fields):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    input: dict[str, Any]


class ThinkingBlock(Fields):
    """What another model thought: not shown to this one."""

    type: Literal["thinking", "redacted_thinking"]


ResultBlock = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[ImageBlock, Tag("<image>")]
    | Annotated[DocumentBlock, Tag("<document>")]
    | Annotated[SearchResultBlock, Tag("<search_result>")],
    Discriminator(
        _kind,
        custom_error_type="block_kind",
        custom_error_message="expected an object whose 'type' is 'text', 'image', 'document' or 'search_result'",
    ),
]
ResultContent = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[ResultBlock], Field(fail_fast=True, max_length=MAX_PARTS), Tag("<list>")],
    Discriminator(
        _shape, custom_error_type="content_type", custom_error_message="expected a string or an array of blocks"
    ),
]


class ToolResultBlock(Fields):
    """What a call gave back."""

    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(min_length=1)]
    content: ResultContent | None = None
    is_error: bool | None = None


Block = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[ImageBlock, Tag("<image>")]
    | Annotated[DocumentBlock, Tag("<document>")]
    | Annotated[SearchResultBlock, Tag("<search_result>")]
    | Annotated[ToolUseBlock, Tag("<tool_use>")]
    | Annotated[ToolResultBlock, Tag("<tool_result>")]
    | Annotated[ThinkingBlock, Tag("<thinking>")]
    | Annotated[ThinkingBlock, Tag("<redacted_thinking>")],
    Discriminator(
        _kind,
        custom_error_type="block_kind",
        custom_error_message=f"expected an object whose 'type' is one of {', '.join(_KINDS)}",
    ),
]
Content = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[Block], Field(fail_fast=True, max_length=MAX_PARTS), Tag("<list>")],
    Discriminator(
        _shape, custom_error_type="content_type", custom_error_message="expected a string or an array of blocks"
    ),
]
System = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[TextBlock], Field(fail_fast=True, max_length=MAX_PARTS), Tag("<list>")],
    Discriminator(
        _shape, custom_error_type="content_type", custom_error_message="expected a string or an array of text blocks"
    ),
]


class MessageIn(Fields):
    """One turn; a system message may come between."""

    role: Literal["user", "assistant", "system"]
    content: Content


class ToolIn(Fields):
    """A function of the client's."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None


class ToolChoiceIn(Fields):
    """`name` with `tool` only."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(Fields):
    """JSON that a schema allows."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Fields):
    """Only what we know of it."""

    format: OutputFormat | None = None


class CountRequest(Fields):
    """Body of `POST /v1/messages/count_tokens`. Null is the same as absent."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[MessageIn], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
    system: System | None = None
    tools: Annotated[list[ToolIn], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoiceIn | None = None


class MessagesRequest(CountRequest):
    """Body of `POST /v1/messages`."""

    max_tokens: Annotated[Int, Field(ge=1, lt=1 << 31)]
    stream: bool | None = None
    stop_sequences: Annotated[list[Stop], Field(fail_fast=True, max_length=MAX_STOPS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[Int, Field(ge=-1, lt=1 << 31)] | None = None
    seed: Annotated[Int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None


def parse(kind: type[F], body: Mapping[str, Any]) -> F:
    """The request in a decoded body. Raises InvalidRequestError that names the first field at fault."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise fault(error.errors(include_url=False, include_input=False)[0]) from None
