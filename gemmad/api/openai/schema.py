"""What comes in: fields that are honoured, their types and bounds, as far as endpoints share them.

Types are strict, as OpenAI's are: `"1"` is no number. Whole floats are integers, since some languages write `16.0`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from gemmad.errors import InvalidRequestError
from gemmad.planning.step import MOST_BIASES

MAX_MESSAGES = 4096
MAX_PARTS = 4096
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_CHOICES = 16
MAX_PRIORITY = 100
MAX_BIAS = 100

_WORDS = {
    "string_type": "expected a string",
    "int_type": "expected an integer",
    "int_from_float": "expected an integer",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected a boolean",
    "list_type": "expected an array",
    "model_type": "expected an object",
    "dict_type": "expected an object",
    "too_short": "expected an array of {min_length} or more items",
    "too_long": "expected an array of at most {max_length} items",
    "string_too_short": "expected a string of {min_length} or more characters",
    "string_too_long": "expected a string of at most {max_length} characters",
    "literal_error": "expected {expected}",
    "greater_than": "expected a value above {gt}",
    "greater_than_equal": "expected a value of at least {ge}",
    "less_than_equal": "expected a value of at most {le}",
    "less_than": "expected a value below {lt}",
}
"""pydantic's kinds of error in our words; any other speaks for itself."""


def _whole(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


def check_seed(value: int) -> int:
    """For pydantic's validators."""
    if not -(1 << 63) <= value < 1 << 63:
        raise PydanticCustomError("int64", "expected a signed 64-bit integer")
    return value


def _biases(value: Any) -> Any:
    """All of them at once, so that no key of the client's comes into a path."""
    if not isinstance(value, dict):
        raise PydanticCustomError("bias_type", "expected an object")
    if len(value) > MOST_BIASES:
        raise PydanticCustomError("bias_count", f"expected at most {MOST_BIASES} token ids")
    for key, bias in value.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10 and key == str(int(key))):
            raise PydanticCustomError("bias_key", "expected token ids in decimal digits as its keys")
        if type(bias) not in (int, float) or not -MAX_BIAS <= bias <= MAX_BIAS:
            raise PydanticCustomError("bias", f"expected numbers from -{MAX_BIAS} to {MAX_BIAS} as its values")
    return {int(key): float(bias) for key, bias in value.items()}


def shape(value: Any) -> str | None:
    """Tells a union of strings and arrays which it is, for pydantic's discriminators."""
    if isinstance(value, str):
        return "<string>"
    return "<list>" if isinstance(value, list) else None


Model = TypeVar("Model", bound=BaseModel)
Int = Annotated[int, BeforeValidator(_whole)]
Biases = Annotated[dict[int, float], BeforeValidator(_biases)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]


class Fields(BaseModel):
    """A JSON object."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


Stops = Annotated[
    Annotated[Stop, Tag("<string>")]
    | Annotated[list[Stop], Field(fail_fast=True, max_length=MAX_STOPS), Tag("<list>")],
    Discriminator(
        shape,
        custom_error_type="stop_type",
        custom_error_message="expected a string or an array of strings",
    ),
]


class StreamOptions(Fields):
    """Only what we know of it."""

    include_usage: bool | None = None


class ReplyFields(Fields):
    """What chat completions and completions have in common: which model, how its reply is drawn and told."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[Int, Field(ge=-1, lt=1 << 31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    logit_bias: Biases | None = None
    seed: Annotated[Int, AfterValidator(check_seed)] | None = None
    max_tokens: Annotated[Int, Field(ge=1, lt=1 << 31)] | None = None
    stop: Stops | None = None
    n: Annotated[Int, Field(ge=1, le=MAX_CHOICES)] | None = None
    priority: Annotated[Int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[Int, Field(ge=0, lt=1 << 31)] | None = None

    def biases(self) -> tuple[tuple[int, float], ...]:
        """Ids and what is added to their logits."""
        return tuple((self.logit_bias or {}).items())

    def stops(self) -> tuple[str, ...]:
        """One stop string or several, as a tuple."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def check_stream_options(self) -> None:
        """Raises InvalidRequestError where they have no meaning."""
        if self.stream_options is not None and not self.stream:
            raise InvalidRequestError("'stream_options' is only allowed when 'stream' is true.", param="stream_options")

    @property
    def includes_usage(self) -> bool:
        """Whether a stream is to tell its usage."""
        return self.stream_options is not None and self.stream_options.include_usage is True


def parse(kind: type[Model], body: Mapping[str, Any]) -> Model:
    """The request in a decoded body. Raises InvalidRequestError that names the first field at fault."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise fault(error.errors(include_url=False, include_input=False)[0]) from None


def field_path(location: Sequence[int | str]) -> str:
    """`("messages", 1, "content")` → `messages[1].content`.

    Steps like `<text>` are names of union branches, which pydantic puts in and we take out.
    """
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("<"):
            path += f".{step}" if path else step
    return path


def fault(error: ErrorDetails) -> InvalidRequestError:
    """What a client is told of pydantic's error, the first of them."""
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
