"""What comes in: the fields of a request for a response that are honoured, their types and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field, Tag, ValidationError
from pydantic_core import PydanticCustomError

from gemmad.api.openai.schema import MAX_PRIORITY, Biases, Fields, Int, check_seed, fault, shape

MAX_ITEMS = 4096
MAX_TOOLS = 512
MAX_METADATA = 16
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512

M = TypeVar("M", bound=BaseModel)
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_.:\-]+$")]
Identifier = Annotated[str, Field(min_length=1, max_length=512)]


class TextIn(Fields):
    """`{"type": "input_text", "text": "…"}`; `output_text` is what the assistant said."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class RefusalIn(Fields):
    """Said by the assistant."""

    type: Literal["refusal"]
    refusal: str


class ImageIn(Fields):
    """`{"type": "input_image", "image_url": "…"}`"""

    type: Literal["input_image"]
    image_url: Annotated[str, Field(min_length=1)]
    detail: Literal["auto", "low", "high", "original"] | None = None


def _part_kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    kinds = dict.fromkeys(("input_text", "output_text", "text"), "<text>")
    return (kinds | {"input_image": "<image>", "refusal": "<refusal>"}).get(kind) if isinstance(kind, str) else None


PartIn = Annotated[
    Annotated[TextIn, Tag("<text>")] | Annotated[ImageIn, Tag("<image>")] | Annotated[RefusalIn, Tag("<refusal>")],
    Discriminator(
        _part_kind,
        custom_error_type="part_kind",
        custom_error_message="expected an object whose 'type' is 'input_text', 'input_image', 'output_text' or "
        "'refusal'",
    ),
]


ContentIn = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[PartIn], Field(fail_fast=True, max_length=MAX_ITEMS), Tag("<list>")],
    Discriminator(
        shape,
        custom_error_type="content_type",
        custom_error_message="expected a string or an array of parts",
    ),
]


class MessageIn(Fields):
    """One turn, or part of it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: ContentIn
    id: Identifier | None = None


class CallIn(Fields):
    """A call that the assistant made."""

    call_id: Identifier
    name: Identifier
    arguments: str
    namespace: Identifier | None = None
    id: Identifier | None = None


class CustomCallIn(Fields):
    """A call of a tool that takes text."""

    call_id: Identifier
    name: Identifier
    input: str
    namespace: Identifier | None = None
    id: Identifier | None = None


class OutputIn(Fields):
    """What a call gave back."""

    call_id: Identifier
    output: ContentIn
    id: Identifier | None = None


class ReferenceIn(Fields):
    """An item of a stored response."""

    id: Identifier


class ReasoningIn(Fields):
    """Nothing of it is read."""


def _item_kind(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = value.get("type")
    if kind is None:
        return "<message>" if "role" in value else "<item_reference>" if "id" in value else None
    return f"<{kind}>" if isinstance(kind, str) and f"<{kind}>" in _ITEM_TAGS else None


_ITEM_TAGS = frozenset(
    f"<{kind}>"
    for kind in (
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "item_reference",
        "reasoning",
    )
)

ItemIn = Annotated[
    Annotated[MessageIn, Tag("<message>")]
    | Annotated[CallIn, Tag("<function_call>")]
    | Annotated[OutputIn, Tag("<function_call_output>")]
    | Annotated[CustomCallIn, Tag("<custom_tool_call>")]
    | Annotated[OutputIn, Tag("<custom_tool_call_output>")]
    | Annotated[ReferenceIn, Tag("<item_reference>")]
    | Annotated[ReasoningIn, Tag("<reasoning>")],
    Discriminator(
        _item_kind,
        custom_error_type="item_kind",
        custom_error_message="expected an item: an object whose 'type' is 'message', 'function_call', "
        "'function_call_output' or 'item_reference'",
    ),
]
InputIn = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[ItemIn], Field(fail_fast=True, max_length=MAX_ITEMS), Tag("<list>")],
    Discriminator(
        shape,
        custom_error_type="input_type",
        custom_error_message="expected a string or an array of items",
    ),
]


class FormatIn(Fields):
    """What the text is held to."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(max_length=64, pattern=r"^[a-zA-Z0-9_\-]+$")] | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextConfigIn(Fields):
    """`verbosity` is told again, and ignored."""

    format: FormatIn | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


def _pairs(value: Any) -> Any:
    """All of them at once, so that no key of the client's comes into a path."""
    if not isinstance(value, dict):
        raise PydanticCustomError("metadata_type", "expected an object")
    if len(value) > MAX_METADATA:
        raise PydanticCustomError("metadata", f"expected at most {MAX_METADATA} pairs")
    for key, text in value.items():
        if len(key) > MAX_KEY_CHARACTERS or not isinstance(text, str) or len(text) > MAX_VALUE_CHARACTERS:
            raise PydanticCustomError(
                "metadata",
                f"expected keys of at most {MAX_KEY_CHARACTERS} characters, and strings of at most "
                f"{MAX_VALUE_CHARACTERS} as their values",
            )
    return value


class CountRequest(Fields):
    """Body of `POST /v1/responses/input_tokens`: what a prompt is made of. Null is the same as absent."""

    model: Annotated[str, Field(min_length=1)] | None = None
    input: InputIn | None = None
    instructions: str | None = None
    previous_response_id: Identifier | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfigIn | None = None
    truncation: Literal["auto", "disabled"] | None = None


class CreateRequest(CountRequest):
    """Body of `POST /v1/responses`."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    include: Annotated[list[str], Field(max_length=64)] | None = None
    max_output_tokens: Annotated[Int, Field(ge=1, lt=1 << 31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[Int, Field(ge=0, le=20)] | None = None
    top_k: Annotated[Int, Field(ge=-1, lt=1 << 31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[Int, AfterValidator(check_seed)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    logit_bias: Biases | None = None
    priority: Annotated[Int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    metadata: Annotated[dict[str, str], BeforeValidator(_pairs)] | None = None
    reasoning: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None

    @property
    def traced(self) -> bool:
        """Whether log-probabilities are told."""
        return "message.output_text.logprobs" in (self.include or ())


def parse(model: type[M], body: Mapping[str, Any], *, path: str = "") -> M:
    """The request in a decoded body, or a part of one that stands at `path`. Raises InvalidRequestError that names the
    first field at fault."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if path:
            first["loc"] = (path, *first["loc"])
        raise fault(first) from None
