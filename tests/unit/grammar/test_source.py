"""What specs are made into: which texts they hold replies to, and which specs are refused, where."""

from __future__ import annotations

import json

import pytest

from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool, ToolChoice
from gemmad.grammar.spec import Calls, Choice, Ebnf, JsonObject, JsonSchema, Regex, Spec

from .vocabularies import begin, holds

PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}


def schema(value: object, *, strict: bool = False) -> JsonSchema:
    return JsonSchema(json.dumps(value), strict)


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (JsonObject(), '{"a": [1, {"b": null}]}', "[1]"),
        (schema({"type": "string"}), '"Grüße 🦖"', '"a" '),
        (schema(True), "[1]", "x"),
        (schema({"items": [{"type": "integer"}], "additionalItems": False, "type": "array"}), "[1]", "[1,2]"),
        (schema({"type": "integer", "minimum": 3, "exclusiveMinimum": True}), "4", "3"),
        (Regex("a+|b/c"), "b/c", "ab"),
        (Regex("^(yes|no)$"), "yes", "yess"),
        (Regex(""), "", "a"),
        (Choice(("a", "a.b\n[c]", "é\\")), "a.b\n[c]", "aXb"),
        (Choice(("", "x")), "", "y"),
        (Ebnf('root ::= "a" [^"\\]\\u00e9]+ x\nx ::= "\\u0042"{2}'), "acBB", "aéBB"),
        (Ebnf('start: NAME ("," NAME)* // <names>\nNAME: /[a-z]+/'), "ab,c", "ab,"),
    ],
)
def test_every_kind_of_spec_holds_replies_to_just_what_it_says(spec: Spec, good: str, bad: str) -> None:
    """Each kind admits a text of its language and not one beside it."""
    assert holds(spec, good)
    assert not holds(spec, bad)


def test_properties_come_in_the_schemas_order_and_others_only_where_the_client_lets_them() -> None:
    """A list of properties is a whole one, unless something speaks for others."""
    more = '{"name": "a", "age": 1, "more": 2}'
    assert not holds(schema(PERSON), more)
    assert not holds(schema(PERSON), '{"age": 1, "name": "a"}')
    assert holds(schema({**PERSON, "additionalProperties": True}), more)
    assert holds(schema({**PERSON, "patternProperties": {"^m": {}}}), more)
    assert holds(schema({"allOf": [PERSON, {"type": "object", "properties": {"more": {"type": "integer"}}}]}), more)
    assert holds(schema({"type": "object"}), more)
    assert not holds(schema({"type": "object", "properties": {}}), more)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ('{"name":"a","age":1}', True),
        ('{"name": "a", "age": 1}', True),
        ('{\n  "name": "a",\n  "age": 1\n}', True),
        ('{"name":  "a"}', False),
        ('{"name":\n\n"a"}', False),
        ('{"name":"a"' + "\n" + " " * 33 + "}", False),
        ('{"name":"a"}\n', False),
    ],
)
def test_json_is_written_tightly_or_in_lines_but_has_no_room_for_endless_spaces(text: str, held: bool) -> None:
    """Between two tokens stands nothing, a space, or one line break and its indentation."""
    assert holds(schema(PERSON), text) is held


def test_a_schema_cannot_give_itself_room() -> None:
    """What the library would read as options in a schema is not read."""
    assert not holds(schema({**PERSON, "x-guidance": {"whitespace_flexible": True}}), '{"name":   "a"}')


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"properties": {"a": {"not": {}}}}, "/properties/a/not"),
        ({"properties": {"a/b": {"items": {"uniqueItems": True}}}}, "/properties/a~1b/items/uniqueItems"),
        ({"$defs": {"x": {"format": "colour"}}, "$ref": "#/$defs/x"}, "/$defs/x/format"),
        ({"anyOf": [{}, {"type": "string", "pattern": "(?=a)"}]}, "/anyOf/1/pattern"),
        ({"enum": [1, {"a": [2**53 + 1]}]}, "/enum/1"),
        ({"properties": {"a": {"$ref": "https://example.org/x"}}}, "/properties/a/$ref"),
        ({"properties": {"a": {"oneOf": [{"type": "string"}, {"minLength": 2, "type": "string"}]}}}, "/properties/a"),
    ],
)
def test_strict_refuses_a_keyword_that_cannot_be_held_and_else_it_is_left_out(value: object, place: str) -> None:
    """A strict schema is held whole or refused with the place; another one is held as far as possible."""
    with pytest.raises(InvalidRequestError, match=f"At {place.replace('$', '.')}:") as caught:
        begin(schema(value, strict=True))
    assert (caught.value.param, caught.value.code) == ("response_format", "invalid_schema")
    begin(schema(value))


@pytest.mark.parametrize("keyword", ["title", "default", "x-order", "deprecated", "nullable", "examples"])
def test_words_that_say_nothing_of_the_text_are_no_reason_to_refuse(keyword: str) -> None:
    """Annotations and unknown keywords are allowed in a strict schema."""
    assert holds(schema({"type": "integer", keyword: ["x"]}, strict=True), "7")


@pytest.mark.parametrize(
    "spec",
    [
        JsonSchema("{"),
        JsonSchema('{"minimum": NaN}'),
        JsonSchema("[]"),
        JsonSchema("false"),
        schema({"type": "strnig"}),
        schema({"properties": []}),
        schema({"items": 3}),
        schema({"required": "a"}),
        schema({"minLength": -1}),
        schema({"enum": []}),
        schema({"$ref": "#/$defs/none"}),
        schema({"$ref": "#"}),
        schema({"type": "integer", "minimum": 5, "maximum": 3}),
        schema({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        Regex("(?=a)b"),
        Regex("["),
        Regex("a\\b"),
        Choice(()),
        Ebnf("start: nowhere"),
        Ebnf("root ::= ("),
        Ebnf("nothing"),
        Ebnf('start: "a" <start_of_turn>'),
        Ebnf("start: <[5]>"),
        Ebnf("start: @other"),
        Ebnf('start: start "a"'),
        Ebnf("}"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_what_is_no_grammar_is_the_clients_fault(spec: Spec, strict: bool) -> None:
    """Broken schemas and grammars are refused whether strict or not, and the field is named."""
    if isinstance(spec, JsonSchema):
        spec = JsonSchema(spec.schema, strict)
    with pytest.raises(InvalidRequestError) as caught:
        begin(spec)
    assert caught.value.param == "response_format"
    assert caught.value.code in {"invalid_schema", "invalid_grammar"}
    assert len(caught.value.message) < 800


def test_text_with_a_form_of_its_own_may_stand_beside_calls() -> None:
    """Where a tool may be called, a reply is a call or what it is held to without calls, of any kind."""
    tool = Tool("f", parameters='{"type": "object", "properties": {}, "additionalProperties": false}')
    for otherwise, text in (
        (Choice(("yes", "no")), "no"),
        (Regex("[0-9]+"), "42"),
        (Ebnf('root ::= "a" start\nstart ::= "b"'), "ab"),
        (JsonSchema('{"type": "integer"}'), "7"),
    ):
        spec = Calls((tool,), ToolChoice(), otherwise)
        assert holds(spec, text)
        assert holds(spec, '{"name": "f", "parameters": {}}')
        assert not holds(spec, "maybe")
