"""What comes in as a chat completion: the fields that are honoured. Anything else is ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from gemmad.api.openai.holds import HoldFields
from gemmad.api.openai.schema import MAX_MESSAGES, MAX_PARTS, Fields, Int, shape
from gemmad.planning.step import MOST_LOGPROBS

MAX_TOOLS = 512
MAX_CALLS = 512
"""In one message."""
ToolName = Annotated[str, Field(pattern="^[a-zA-Z0-9_.:-]{1,128}$")]


def _part_kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    tags = {"text": "<text>", "image_url": "<image>", "refusal": "<refusal>"}
    return tags.get(kind) if isinstance(kind, str) else None


def _choice_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<word>"
    kind = value.get("type") if isinstance(value, dict) else None
    tags = {"function": "<function>", "allowed_tools": "<allowed>"}
    return tags.get(kind) if isinstance(kind, str) else None


class TextContent(Fields):
    """`{"type": "text", "text": "…"}`"""

    type: Literal["text"]
    text: str


class RefusalContent(Fields):
    """What an assistant said when it refused: words, as any."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(Fields):
    """`detail` is accepted; the model sees every image at its one size."""

    url: Annotated[str, Field(min_length=1)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImageContent(Fields):
    """`{"type": "image_url", "image_url": {"url": "…"}}`"""

    type: Literal["image_url"]
    image_url: ImageUrl


ContentPart = Annotated[
    Annotated[TextContent, Tag("<text>")]
    | Annotated[ImageContent, Tag("<image>")]
    | Annotated[RefusalContent, Tag("<refusal>")],
    Discriminator(
        _part_kind,
        custom_error_type="part_kind",
        custom_error_message="expected an object whose 'type' is 'text' or 'image_url'",
    ),
]
Content = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[ContentPart], Field(fail_fast=True, min_length=1, max_length=MAX_PARTS), Tag("<list>")],
    Discriminator(
        shape,
        custom_error_type="content_type",
        custom_error_message="expected a string or an array of parts",
    ),
]


class FunctionCalled(Fields):
    """What an assistant called, with the text that it wrote as arguments."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    arguments: str


class ToolCall(Fields):
    """One call of an earlier turn."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"] | None = None
    function: FunctionCalled


class ChatMessage(Fields):
    """One turn. Which fields it must have follows from its role (`conversation`)."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_CALLS)] | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None


class Function(Fields):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Fields):
    """`{"type": "function", "function": {…}}`"""

    type: Literal["function"]
    function: Function


class Named(Fields):
    """The name of a function."""

    name: str


class NamedTool(Fields):
    """`{"type": "function", "function": {"name": "…"}}`"""

    type: Literal["function"]
    function: Named


class AllowedTools(Fields):
    """Which tools, and whether one must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(fail_fast=True, min_length=1, max_length=MAX_TOOLS)]


class AllowedToolsChoice(Fields):
    """`{"type": "allowed_tools", "allowed_tools": {…}}`"""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoiceField = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")]
    | Annotated[NamedTool, Tag("<function>")]
    | Annotated[AllowedToolsChoice, Tag("<allowed>")],
    Discriminator(
        _choice_kind,
        custom_error_type="choice_kind",
        custom_error_message=(
            "expected 'none', 'auto', 'required', or an object whose 'type' is 'function' or 'allowed_tools'"
        ),
    ),
]


class ChatRequest(HoldFields):
    """Body of `POST /v1/chat/completions`. Null is the same as absent."""

    messages: Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[Int, Field(ge=1, lt=1 << 31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[Int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    tools: Annotated[list[FunctionTool], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: bool | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
