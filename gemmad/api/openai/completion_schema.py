"""What comes in as a completion without a conversation, or to be tokenised. Anything else is ignored."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from gemmad.api.openai.chat_schema import MAX_TOOLS, ChatMessage, FunctionTool
from gemmad.api.openai.holds import HoldFields
from gemmad.api.openai.schema import MAX_MESSAGES, Fields, Int
from gemmad.errors import InvalidRequestError
from gemmad.planning.step import MOST_LOGPROBS

MAX_PROMPTS = 128
"""Prompts of one request, and choices of all of them together."""


def _ids(value: Any) -> Any:
    """All of them at once: a prompt may have a hundred thousand."""
    if not value:
        raise PydanticCustomError("no_ids", "expected one token id or more")
    if all(type(token_id) is int and 0 <= token_id < 1 << 31 for token_id in value):
        return tuple(value)
    raise PydanticCustomError("ids", "expected token ids: integers that are not negative")


def _prompt_shape(value: Any) -> str | None:
    if isinstance(value, str):
        return "<string>"
    if not isinstance(value, list):
        return None
    first = value[0] if value else ""
    if isinstance(first, list):
        return "<id lists>"
    return "<strings>" if isinstance(first, str) else "<ids>"


TokenIdsField = Annotated[tuple[int, ...], BeforeValidator(_ids)]
Prompts = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[TokenIdsField, Tag("<ids>")]
    | Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS), Tag("<strings>")]
    | Annotated[list[TokenIdsField], Field(fail_fast=True, max_length=MAX_PROMPTS), Tag("<id lists>")],
    Discriminator(
        _prompt_shape,
        custom_error_type="prompt_type",
        custom_error_message="expected a string, an array of strings, token ids, or an array of arrays of token ids",
    ),
]


class CompletionRequest(HoldFields):
    """Body of `POST /v1/completions`. Null is the same as absent."""

    prompt: Prompts
    logprobs: Annotated[Int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: Annotated[Int, Field(ge=1)] | None = None

    def prompts(self) -> list[str | tuple[int, ...]]:
        """One or several, as a list."""
        return self.prompt if isinstance(self.prompt, list) else [self.prompt]  # type: ignore[return-value]

    def check(self) -> None:
        """Raises InvalidRequestError for fields that do not go together."""
        self.check_stream_options()
        if self.echo and self.logprobs is not None:
            raise InvalidRequestError(
                "Unsupported parameter: 'logprobs' cannot be had with 'echo', since those of the prompt are not"
                " computed.",
                param="logprobs",
                code="unsupported_parameter",
            )
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise InvalidRequestError(
                "Unsupported parameter: 'best_of' must be the same as 'n'.",
                param="best_of",
                code="unsupported_parameter",
            )
        if len(self.prompts()) * (self.n or 1) > MAX_PROMPTS:
            raise InvalidRequestError(
                f"A request can have {MAX_PROMPTS} choices at most, those of all prompts together.", param="n"
            )


class TokenizeRequest(Fields):
    """Body of `POST /tokenize`: a prompt, or messages."""

    model: Annotated[str, Field(min_length=1)] | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)] | None = None
    tools: Annotated[list[FunctionTool], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Fields):
    """Body of `POST /detokenize`."""

    model: Annotated[str, Field(min_length=1)] | None = None
    tokens: tuple[int, ...]

    @field_validator("tokens", mode="before")
    @classmethod
    def _check_tokens(cls, value: Any) -> Any:
        if not isinstance(value, list):
            raise PydanticCustomError("tokens_type", "expected an array of token ids")
        return _ids(value) if value else ()
