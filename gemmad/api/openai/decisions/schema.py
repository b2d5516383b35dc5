"""What comes in: `client.decisions.create` of OpenAI's SDK, its fields, their types and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationError
from pydantic_core import PydanticCustomError

from gemmad.api.openai.schema import Fields, fault

MAX_QUESTIONS = 400
MAX_CHOICES = 255
MAX_LEVELS = 10
MAX_ITEMS = 4096
MAX_PARTS = 4096

_PARTS = {
    "input_text": "<input_text>",
    "input_image": "<input_image>",
    "input_json": "<input_json>",
    "output_text": "<output_text>",
    "refusal": "<refusal>",
}
_ITEMS = {
    "message": "<message>",
    "function_call": "<function_call>",
    "function_call_output": "<function_call_output>",
    "custom_tool_call": "<custom_tool_call>",
    "custom_tool_call_output": "<custom_tool_call_output>",
}
_QUESTIONS = {"predicate": "<predicate>", "choice": "<choice>", "score": "<score>"}


def _tag(value: Any, tags: Mapping[str, str], otherwise: str | None = None) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = value.get("type", otherwise)
    return tags.get(kind) if isinstance(kind, str) else None


def _part_tag(value: Any) -> str | None:
    return _tag(value, _PARTS)


def _item_tag(value: Any) -> str | None:
    return _tag(value, _ITEMS, "message")


def _question_tag(value: Any) -> str | None:
    return _tag(value, _QUESTIONS)


def _shape(value: Any) -> str | None:
    if isinstance(value, str):
        return "<string>"
    return "<list>" if isinstance(value, list) else None


def _kinds(tag: Any, kinds: Mapping[str, str]) -> Discriminator:
    words = ", ".join(f"'{kind}'" for kind in kinds)
    return Discriminator(
        tag, custom_error_type="kind", custom_error_message=f"expected an object whose 'type' is one of {words}"
    )


def _objects(value: Any) -> Any:
    if isinstance(value, dict) or (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
        return value
    raise PydanticCustomError("json_type", "expected an object or an array of objects")


def _choice_value(value: Any) -> str | bool:
    if isinstance(value, (str, bool)) and value != "":
        return value
    raise PydanticCustomError("choice_type", "expected a boolean or a string that is not empty")


class InputText(Fields):
    """Words."""

    type: Literal["input_text"]
    text: str


class InputImage(Fields):
    """A picture. `detail` is accepted; the model sees every image at its one size."""

    type: Literal["input_image"]
    image_url: Annotated[str, Field(min_length=1)]
    detail: Literal["low", "high", "auto", "original"] | None = None


class InputJson(Fields):
    """Data, shown as text."""

    type: Literal["input_json"]
    data: Annotated[Any, AfterValidator(_objects)]


class OutputText(Fields):
    """What the assistant said."""

    type: Literal["output_text"]
    text: str


class Refusal(Fields):
    """What the assistant said when it did not answer."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[
    Annotated[InputText, Tag("<input_text>")]
    | Annotated[InputImage, Tag("<input_image>")]
    | Annotated[InputJson, Tag("<input_json>")]
    | Annotated[OutputText, Tag("<output_text>")]
    | Annotated[Refusal, Tag("<refusal>")],
    _kinds(_part_tag, _PARTS),
]
Content = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[Part], Field(fail_fast=True, min_length=1, max_length=MAX_PARTS), Tag("<list>")],
    Discriminator(
        _shape, custom_error_type="content_type", custom_error_message="expected a string or an array of parts"
    ),
]


class InputMessage(Fields):
    """One turn. Which parts may be in it depends on the role."""

    type: Literal["message"] | None = None
    role: Literal["user", "developer", "system", "assistant"]
    content: Content


class Call(Fields):
    """A call of a function that was made; `arguments` is JSON text."""

    type: Literal["function_call"]
    call_id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    arguments: str


class CustomCall(Fields):
    """A call of a tool that takes plain text."""

    type: Literal["custom_tool_call"]
    call_id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    input: str


class Output(Fields):
    """What a call gave back."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Annotated[str, Field(min_length=1)]
    output: Content


Item = Annotated[
    Annotated[InputMessage, Tag("<message>")]
    | Annotated[Call, Tag("<function_call>")]
    | Annotated[Output, Tag("<function_call_output>")]
    | Annotated[CustomCall, Tag("<custom_tool_call>")]
    | Annotated[Output, Tag("<custom_tool_call_output>")],
    _kinds(_item_tag, _ITEMS),
]
Input = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[Item], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS), Tag("<list>")],
    Discriminator(
        _shape, custom_error_type="input_type", custom_error_message="expected a string or an array of items"
    ),
]
Instructions = Annotated[
    Annotated[str, Field(min_length=1), Tag("<string>")]
    | Annotated[list[Part], Field(fail_fast=True, min_length=1, max_length=MAX_PARTS), Tag("<list>")],
    Discriminator(
        _shape, custom_error_type="instructions_type", custom_error_message="expected a string or an array of parts"
    ),
]


class PredicateQuestion(Fields):
    """Is a statement about the input true?"""

    type: Literal["predicate"]
    instructions: Instructions
    name: str | None = None


class ChoiceOption(Fields):
    """One option. A string and a boolean with the same text are two."""

    value: Annotated[Any, AfterValidator(_choice_value)]
    description: str | None = None


class ChoiceQuestion(Fields):
    """Which one of these?"""

    type: Literal["choice"]
    instructions: Instructions
    choices: Annotated[list[ChoiceOption], Field(fail_fast=True, min_length=2, max_length=MAX_CHOICES)]
    name: str | None = None


class ScoreLevel(Fields):
    """One level."""

    label: Annotated[str, Field(min_length=1)]
    description: str | None = None


class ScoreQuestion(Fields):
    """How much, on these levels from low to high?"""

    type: Literal["score"]
    instructions: Instructions
    levels: Annotated[list[ScoreLevel], Field(fail_fast=True, min_length=2, max_length=MAX_LEVELS)]
    name: str | None = None


Question = Annotated[
    Annotated[PredicateQuestion, Tag("<predicate>")]
    | Annotated[ChoiceQuestion, Tag("<choice>")]
    | Annotated[ScoreQuestion, Tag("<score>")],
    _kinds(_question_tag, _QUESTIONS),
]


class DecisionRequest(Fields):
    """Body of `POST /v1/decisions`. Null is the same as absent."""

    model: Annotated[str, Field(min_length=1)]
    input: Input
    questions: Annotated[list[Question], Field(fail_fast=True, min_length=1, max_length=MAX_QUESTIONS)]


def parse_decision(body: Mapping[str, Any]) -> DecisionRequest:
    """The request in a decoded body. Raises InvalidRequestError that names the first field at fault."""
    try:
        return DecisionRequest.model_validate(body)
    except ValidationError as error:
        raise fault(error.errors(include_url=False, include_input=False)[0]) from None
