"""What comes in: the fields of Ollama's API that are honoured, their types and bounds.

Anything else is ignored; what would change the reply and cannot is in `parameters.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, ValidationError

from gemmad.api.openai.schema import MAX_MESSAGES, MAX_PARTS, MAX_STOPS, Fields, Int, Stop, fault

MAX_TOOLS = 512
MAX_TOP_LOGPROBS = 20

F = TypeVar("F", bound=Fields)


def _shape(value: Any) -> str | None:
    for kind in (str, list, dict):
        if isinstance(value, kind):
            return f"<{kind.__name__}>"
    return None


Images = Annotated[list[Annotated[str, Field(min_length=1)]], Field(fail_fast=True, max_length=MAX_PARTS)]
"""Base64, as it stands."""
Stops = Annotated[
    Annotated[Stop, Tag("<str>")] | Annotated[list[Stop], Field(fail_fast=True, max_length=MAX_STOPS), Tag("<list>")],
    Discriminator(
        _shape, custom_error_type="stop_type", custom_error_message="expected a string or an array of strings"
    ),
]
Format = Annotated[
    Annotated[Literal["", "json"], Tag("<str>")] | Annotated[dict[str, Any], Tag("<dict>")],
    Discriminator(_shape, custom_error_type="format_type", custom_error_message="expected 'json' or a JSON schema"),
]


class Options(Fields):
    """How to sample."""

    num_predict: Annotated[Int, Field(ge=-2, lt=1 << 31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_k: Annotated[Int, Field(ge=-1, lt=1 << 31)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[Int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Stops | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None


class CalledFunction(Fields):
    """Which, and with what."""

    name: Annotated[str, Field(min_length=1)]
    arguments: dict[str, Any] | None = None


class ToolCall(Fields):
    """A call that the assistant made."""

    id: str | None = None
    function: CalledFunction


class MessageIn(Fields):
    """One turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    images: Images | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_PARTS)] | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None


class Function(Fields):
    """What the model may call."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolIn(Fields):
    """Of type function; there are no others."""

    function: Function


class StreamedRequest(Fields):
    """What `/api/chat` and `/api/generate` share. Null is the same as absent; they stream unless told not to."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool | None = None
    format: Format | None = None
    options: Options | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[Int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    keep_alive: float | str | None = None


class ChatRequest(StreamedRequest):
    """Body of `POST /api/chat`. Without messages it asks for the model to be loaded."""

    messages: Annotated[list[MessageIn], Field(fail_fast=True, max_length=MAX_MESSAGES)] | None = None
    tools: Annotated[list[ToolIn], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None


class GenerateRequest(StreamedRequest):
    """Body of `POST /api/generate`. Without a prompt it asks for the model to be loaded."""

    prompt: str | None = None
    system: str | None = None
    images: Images | None = None
    raw: bool | None = None


class ShowRequest(Fields):
    """Body of `POST /api/show`; old clients say `name`."""

    model: Annotated[str, Field(min_length=1)] | None = None
    name: Annotated[str, Field(min_length=1)] | None = None


def parse(kind: type[F], body: Mapping[str, Any]) -> F:
    """The request in a decoded body. Raises InvalidRequestError that names the first field at fault."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise fault(error.errors(include_url=False, include_input=False)[0]) from None
