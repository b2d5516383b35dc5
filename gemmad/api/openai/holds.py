"""What a reply is held to, under the names that OpenAI, vLLM, SGLang and llama.cpp have for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from gemmad.api.fields import json_text
from gemmad.api.openai.schema import Fields, ReplyFields
from gemmad.errors import InvalidRequestError
from gemmad.grammar.spec import Choice, Ebnf, JsonObject, JsonSchema, Regex, Spec

MAX_OPTIONS = 4096


def _format_kind(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    tags = {"text": "<text>", "json_object": "<object>", "json_schema": "<schema>"}
    return tags.get(kind) if isinstance(kind, str) else None


def _schema_shape(value: Any) -> str | None:
    if isinstance(value, str):
        return "<string>"
    return "<object>" if isinstance(value, dict) else None


Expression = Annotated[str, Field(min_length=1)]
Options = Annotated[list[Expression], Field(fail_fast=True, min_length=1, max_length=MAX_OPTIONS)]
Schema = Annotated[
    Annotated[Expression, Tag("<string>")] | Annotated[dict[str, Any], Tag("<object>")],
    Discriminator(
        _schema_shape,
        custom_error_type="schema_type",
        custom_error_message="expected a JSON schema as an object, or as text",
    ),
]


class TextFormat(Fields):
    """Anything."""

    type: Literal["text"]


class ObjectFormat(Fields):
    """Any JSON object; llama.cpp's clients give it a schema too."""

    type: Literal["json_object"]
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None


class NamedSchema(Fields):
    """`name` and `description` are for people."""

    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class SchemaFormat(Fields):
    """`{"type": "json_schema", "json_schema": {…}}`"""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[ObjectFormat, Tag("<object>")]
    | Annotated[SchemaFormat, Tag("<schema>")],
    Discriminator(
        _format_kind,
        custom_error_type="format_kind",
        custom_error_message="expected an object whose 'type' is 'text', 'json_object' or 'json_schema'",
    ),
]


class StructuredOutputs(Fields):
    """vLLM's newer names."""

    json_: Annotated[Schema | None, Field(alias="json")] = None
    regex: Expression | None = None
    choice: Options | None = None
    grammar: Expression | None = None
    json_object: bool | None = None


class HoldFields(ReplyFields):
    """A request may have one of these at most."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_regex: Expression | None = None
    guided_choice: Options | None = None
    guided_grammar: Expression | None = None
    json_schema: Schema | None = None
    regex: Expression | None = None
    ebnf: Expression | None = None
    grammar: Expression | None = None

    def hold(self) -> tuple[Spec | None, str]:
        """What the reply is held to, and the field that says so. Raises InvalidRequestError if there are several."""
        found = list(_holds(self))
        if len(found) > 1:
            first, second = found[0][1], found[1][1]
            raise InvalidRequestError(
                f"A reply can be held to one thing only, not to '{first}' and '{second}'.", param=second
            )
        return found[0] if found else (None, "response_format")


def _holds(fields: HoldFields) -> Iterator[tuple[Spec, str]]:
    match fields.response_format:
        case ObjectFormat(schema_=schema):
            param = "response_format.schema"
            yield (JsonObject(), "response_format") if schema is None else (_json(schema, param=param), param)
        case SchemaFormat(json_schema=named):
            param = "response_format.json_schema.schema"
            yield (
                (JsonObject(), "response_format")
                if named.schema_ is None
                else (_json(named.schema_, param=param, strict=named.strict is True), param)
            )
    if fields.structured_outputs is not None:
        yield from _structured(fields.structured_outputs)
    for name in ("guided_json", "json_schema"):
        schema = getattr(fields, name)
        if schema is not None:
            yield _json(schema, param=name), name
    for name in ("guided_regex", "regex"):
        pattern = getattr(fields, name)
        if pattern is not None:
            yield Regex(pattern), name
    if fields.guided_choice is not None:
        yield Choice(tuple(fields.guided_choice)), "guided_choice"
    for name in ("guided_grammar", "ebnf", "grammar"):
        source = getattr(fields, name)
        if source is not None:
            yield Ebnf(source), name


def _structured(asked: StructuredOutputs) -> Iterator[tuple[Spec, str]]:
    if asked.json_ is not None:
        yield _json(asked.json_, param="structured_outputs.json"), "structured_outputs.json"
    if asked.regex is not None:
        yield Regex(asked.regex), "structured_outputs.regex"
    if asked.choice is not None:
        yield Choice(tuple(asked.choice)), "structured_outputs.choice"
    if asked.grammar is not None:
        yield Ebnf(asked.grammar), "structured_outputs.grammar"
    if asked.json_object:
        yield JsonObject(), "structured_outputs.json_object"


def _json(schema: str | dict[str, Any], *, param: str, strict: bool = False) -> JsonSchema:
    return JsonSchema(schema if isinstance(schema, str) else json_text(schema, param=param), strict)
