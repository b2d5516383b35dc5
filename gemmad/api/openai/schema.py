"""What comes in: the fields of a chat request that are honoured, their types and bounds. Anything else is ignored.

Types are strict, as OpenAI's are: `"1"` is no number. Whole floats are integers, since some languages write `16.0`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from gemmad.errors import InvalidRequestError

MAX_MESSAGES = 4096
MAX_PARTS = 4096
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_CHOICES = 16
MAX_PRIORITY = 100
_TAGS = ("<string>", "<list>", "<text>", "<image>")
"""Names of union branches: pydantic puts them into the path of an error, we take them out again."""


_WORDS = {
    "string_type": "expected a string",
    "int_type": "expected an integer",
    "int_from_float": "expected an integer",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected a boolean",
    "list_type": "expected an array",
    "model_type": "expected an object",
    "too_short": "expected an array of {min_length} or more items",
    "too_long": "expected an array of at most {max_length} items",
    "string_too_short": "expected a string of {min_length} or more characters",
    "string_too_long": "expected a string of at most {max_length} characters",
    "literal_error": "expected {expected}",
    "greater_than_equal": "expected a value of at least {ge}",
    "less_than_equal": "expected a value of at most {le}",
    "less_than": "expected a value below {lt}",
}
"""pydantic's kinds of error in our words; any other speaks for itself."""


def _whole(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def _int64(value: int) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise PydanticCustomError("int64", "expected a signed 64-bit integer")
    return value


def _shape(value: Any) -> str | None:
    if isinstance(value, str):
        return "<string>"
    return "<list>" if isinstance(value, list) else None


def _part_kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return {"text": "<text>", "image_url": "<image>"}.get(kind) if isinstance(kind, str) else None


Int = Annotated[int, BeforeValidator(_whole)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]


class Fields(BaseModel):
    """A JSON object."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class TextContent(Fields):
    """`{"type": "text", "text": "…"}`"""

    type: Literal["text"]
    text: str


class ImageUrl(Fields):
    """`detail` is accepted; the model sees every image at its one size."""

    url: Annotated[str, Field(min_length=1)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImageContent(Fields):
    """`{"type": "image_url", "image_url": {"url": "…"}}`"""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[
    Annotated[TextContent, Tag("<text>")] | Annotated[ImageContent, Tag("<image>")],
    Discriminator(
        _part_kind,
        custom_error_type="part_kind",
        custom_error_message="expected an object whose 'type' is 'text' or 'image_url'",
    ),
]
Content = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[Part], Field(fail_fast=True, min_length=1, max_length=MAX_PARTS), Tag("<list>")],
    Discriminator(
        _shape,
        custom_error_type="content_type",
        custom_error_message="expected a string or an array of parts",
    ),
]
Stops = Annotated[
    Annotated[Stop, Tag("<string>")]
    | Annotated[list[Stop], Field(fail_fast=True, max_length=MAX_STOPS), Tag("<list>")],
    Discriminator(
        _shape,
        custom_error_type="stop_type",
        custom_error_message="expected a string or an array of strings",
    ),
]


class ChatMessage(Fields):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content


class StreamOptions(Fields):
    """Only what we know of it."""

    include_usage: bool | None = None


class ChatRequest(Fields):
    """Body of `POST /v1/chat/completions`. Null is the same as absent."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[Int, Field(ge=-1, lt=1 << 31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[Int, AfterValidator(_int64)] | None = None
    max_tokens: Annotated[Int, Field(ge=1, lt=1 << 31)] | None = None
    max_completion_tokens: Annotated[Int, Field(ge=1, lt=1 << 31)] | None = None
    stop: Stops | None = None
    n: Annotated[Int, Field(ge=1, le=MAX_CHOICES)] | None = None
    priority: Annotated[Int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[Int, Field(ge=0, lt=1 << 31)] | None = None


def parse_chat(body: Mapping[str, Any]) -> ChatRequest:
    """The request in a decoded body. Raises InvalidRequestError that names the first field at fault."""
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        raise _fault(error.errors(include_url=False, include_input=False)[0]) from None


def field_path(location: Sequence[int | str]) -> str:
    """`("messages", 1, "content")` → `messages[1].content`."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step not in _TAGS:
            path += f".{step}" if path else step
    return path


def _fault(error: ErrorDetails) -> InvalidRequestError:
    path = field_path(error["loc"])
    if error["type"] == "missing":
        return InvalidRequestError(
            f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
        )
    kind = error["type"]
    words = _WORDS.get(kind)
    message = words.format(**error.get("ctx", {})) if words else error["msg"][:1].lower() + error["msg"][1:]
    code = "invalid_type" if kind.endswith("_type") or kind == "int_from_float" else "invalid_value"
    return InvalidRequestError(f"Invalid value for '{path}': {message}.", param=path, code=code)
