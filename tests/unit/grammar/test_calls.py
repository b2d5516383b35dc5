"""The grammar of calls: what it admits is what the reader reads, and holds to the tools' schemas."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool, ToolChoice
from gemmad.grammar.calls import write_calls
from gemmad.grammar.source import json_schema
from gemmad.grammar.spec import Calls, Choice, JsonObject, JsonSchema, Regex
from gemmad.text.calls import CallReader
from gemmad.text.opening import write_call

END = 256


class Bytes:
    """A vocabulary of all bytes, and an end."""

    eos_token_id = END
    bos_token_id = None
    tokens = [*(bytes([byte]) for byte in range(256)), b"<end>"]  # noqa: RUF012  # the library reads it so
    special_token_ids = [END]  # noqa: RUF012

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


TOKENIZER = LLTokenizer(TokenizerWrapper(Bytes()), n_vocab=END + 1, eos_token=END)

WEATHER = Tool(
    "get_weather",
    parameters="""{"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer",
    "minimum": 0, "maximum": 99}}, "required": ["city"], "additionalProperties": false}""",
)
TREE = Tool(
    "tree/größe",
    parameters="""{"type": "object", "properties": {"default": {"$ref": "#/$defs/leaf"}, "left": {"$ref": "#"}},
    "required": ["default"], "additionalProperties": false, "$defs": {"leaf": {"type": "boolean"}}}""",
)
NOTHING = Tool('no"thing\\', parameters='{"type": "object", "properties": {}, "additionalProperties": false}')
TOOLS = (WEATHER, TREE, NOTHING)


def holds_tree(value: Mapping[str, Any]) -> bool:
    return (
        isinstance(value["default"], bool)
        and value.keys() <= {"default", "left"}
        and ("left" not in value or holds_tree(value["left"]))
    )


HOLDS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    WEATHER.name: lambda value: (
        value["city"] in ("Paris", "Rome")
        and value.keys() <= {"city", "days"}
        and type(value.get("days", 0)) is int
        and 0 <= value.get("days", 0) <= 99
    ),
    TREE.name: holds_tree,
    NOTHING.name: lambda value: value == {},
}


def matcher(choice: ToolChoice, *, tools: tuple[Tool, ...] = TOOLS) -> LLMatcher:
    return compiled(Calls(tools, choice))


def compiled(spec: Calls, otherwise: str = "") -> LLMatcher:
    made = LLMatcher(TOKENIZER, write_calls(spec, param="tools", otherwise=otherwise), log_level=0)
    assert not made.is_error(), made.get_error()
    return made


def admits(made: LLMatcher, text: str) -> bool:
    """Whether the text can be the whole reply."""
    walk = made.deep_copy()
    return all(walk.try_consume_tokens([byte]) for byte in text.encode()) and bool(walk.is_accepting())


AUTO, REQUIRED = ToolChoice(), ToolChoice("required")
PARIS = write_call("get_weather", '{"city": "Paris"}')
NONE = write_call(NOTHING.name, "{}")
LEAF = write_call(TREE.name, '{"default": true, "left": {"default": false}}')
LOOSE = '{"name":"get_weather","parameters":{"city":"Paris"}}'
TEXTS = ["", "Hello.\nI am {", '{"name": "John"}', '```json\n{"name": "get"}\n```', "[1]", f"It is {PARIS}"]


@pytest.mark.parametrize(
    ("choice", "admitted", "refused"),
    [
        (
            AUTO,
            [*TEXTS, PARIS, LEAF, NONE, f"{PARIS}\n{NONE}", f"[{PARIS}, {LOOSE}]", f"So:\n```json\n{LOOSE}\n```"],
            [],
        ),
        (REQUIRED, [PARIS, LEAF, NONE, f"{PARIS}\n{NONE}"], [*TEXTS, f"[{PARIS}]", f"So:\n{PARIS}", f"\n{PARIS}"]),
        (ToolChoice(parallel=False), [*TEXTS, PARIS, f"[{PARIS}]"], [f"{PARIS}\n{NONE}", f"[{PARIS}, {NONE}]"]),
        (ToolChoice("required", parallel=False), [PARIS, NONE], [f"{PARIS}\n{NONE}"]),
        (ToolChoice("required", (NOTHING.name,)), [NONE, f"{NONE}\n{NONE}"], [*TEXTS, PARIS, LEAF, f"{NONE}\n{PARIS}"]),
        (ToolChoice("auto", (TREE.name,)), [*TEXTS, LEAF, f"text\n{LEAF}"], [f"{LEAF}\n{PARIS}"]),
        (ToolChoice("none"), [*TEXTS, PARIS], []),
    ],
)
def test_choices(choice: ToolChoice, admitted: list[str], refused: list[str]) -> None:
    """`auto` is text or calls, `required` calls alone, of those that are allowed, and one where only one may be."""
    made = matcher(choice)
    assert [text for text in admitted if not admits(made, text)] == []
    assert [text for text in refused if admits(made, text)] == []


@pytest.mark.parametrize(
    "broken",
    [
        '{"name": "get_weather", "parameters": {"city": "Berlin"}}',
        '{"name": "get_weather", "parameters": {}}',
        '{"name": "get_weather", "parameters": 3}',
        '{"name": "get_weather"}',
        f"{PARIS} and so on",
        f'{PARIS}\n{{"name": "John"}}',
        write_call(TREE.name, '{"default": 1}'),
        write_call(TREE.name, '{"default": true, "left": {"default": null}}'),
        write_call(NOTHING.name, '{"a": 1}'),
    ],
)
@pytest.mark.parametrize("lead", ["", "text\n", "```json\n", "[\n"])
def test_opening_commits(broken: str, lead: str) -> None:
    """Where the name of a tool stands in a call's opening, nothing but a call of it with its arguments can follow."""
    assert not admits(matcher(AUTO), lead + broken)
    assert not admits(matcher(REQUIRED), broken)


def walk(made: LLMatcher, chance: random.Random, start: str) -> str:
    """A reply that the grammar admits, drawn byte by byte after `start`, with a liking for what ends things."""
    here = made.deep_copy()
    said = bytearray(start.encode())
    assert here.try_consume_tokens(list(said)) == len(said)
    mask = allocate_token_bitmask(1, END + 1)
    for _ in range(3000):
        fill_next_token_bitmask(here, mask, 0)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8)[0], bitorder="little")).tolist()
        assert allowed
        if END in allowed and chance.random() < 0.5:
            return said.decode()
        allowed = [byte for byte in allowed if byte != END]
        likely = [byte for byte in allowed if byte in b'"}{:,` \n' and (byte not in b" \n" or chance.random() < 0.3)]
        byte = chance.choice(likely if likely and chance.random() < 0.8 else allowed)
        assert here.consume_token(byte)
        said.append(byte)
    return ""


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 32),
    choice=st.sampled_from([AUTO, REQUIRED, ToolChoice(parallel=False), ToolChoice("required", (TREE.name,))]),
    start=st.sampled_from(["", '{"name": "', "Well.\n```json\n[", '```tool_code\n{"name": "get_weather"']),
)
def test_whatever_it_admits_is_read(seed: int, choice: ToolChoice, start: str) -> None:
    """Any reply that the grammar admits is text or whole calls to the reader, and each call's arguments are as its
    schema has them."""
    forced = choice.mode == "required"
    said = walk(matcher(choice), random.Random(seed), '{"name": "' if forced else start)
    allowed = [tool.name for tool in TOOLS if choice.allowed is None or tool.name in choice.allowed]
    reader = CallReader(allowed, key="k", is_forced=forced)
    text = "".join(reader.feed(char).text for char in said) + reader.finish().text
    assert not reader.is_cut
    assert all(HOLDS[call.name](json.loads(call.arguments)) for call in reader.calls)
    assert {call.name for call in reader.calls} <= set(allowed)
    assert len(reader.calls) <= 1 or choice.parallel
    assert text == said or reader.calls
    assert said == "" or not forced or reader.calls


OTHERWISE = JsonSchema('{"type":"object","properties":{"name":{"type":"string"}},"additionalProperties":false}')


@pytest.mark.parametrize(
    ("spec", "admitted"),
    [
        (OTHERWISE, '{"name": "John"}'),
        (JsonObject(), '{"name": "John", "x": {"name": 1}}'),
        (Regex("[a-z]+"), "abc"),
        (Choice(("yes", "no")), "yes"),
    ],
)
def test_text_with_a_form(spec: JsonSchema | JsonObject | Regex | Choice, admitted: str) -> None:
    """A reply without calls is held to its own form, one with calls to theirs."""
    match spec:
        case JsonSchema(schema):
            otherwise = json_schema(schema, strict=False, param="response_format")
        case JsonObject():
            otherwise = json_schema('{"type": "object"}', strict=False, param="response_format")
        case _:
            otherwise = '/[a-z]+/ | "yes"'
    made = compiled(Calls(TOOLS, AUTO, spec), f"otherwise: {otherwise}")
    assert admits(made, admitted)
    assert admits(made, PARIS)
    assert admits(made, LEAF)
    assert admits(made, f"{PARIS}\n{NONE}")
    assert not admits(made, "Hello.")
    assert not admits(made, f"{PARIS}\n{admitted}")
    reader = CallReader([tool.name for tool in TOOLS], key="k", has_form=True)
    assert reader.feed(admitted).text + reader.finish().text == admitted


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ("{}", '{"a": [1, {"b": null}]}'),
        ('{"properties": {"a": {"type": "string"}}}', '{"a": "b"}'),
        ('{"type": ["object", "null"]}', "{}"),
        ('{"$ref": "#/$defs/X", "$defs": {"X": {"properties": {"a": {"const": 1}}}}}', '{"a": 1}'),
        ('{"anyOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["b"]}]}', '{"a": 1}'),
    ],
)
def test_parameters_that_do_not_say_object(parameters: str, arguments: str) -> None:
    """Arguments are an object, whether or not the schema says so."""
    made = matcher(REQUIRED, tools=(Tool("f", parameters=parameters),))
    assert admits(made, write_call("f", arguments))
    assert not admits(made, write_call("f", "null"))
    assert not admits(made, write_call("f", '"a"'))


@pytest.mark.parametrize(
    "parameters", ["", "{", "[]", "true", '{"type": "string"}', '{"type": ["null"]}', "[" * 100_000]
)
def test_impossible_parameters(parameters: str) -> None:
    """Parameters that are no object's are refused, and the tool named."""
    with pytest.raises(InvalidRequestError) as caught:
        write_calls(Calls((WEATHER, Tool("f", parameters=parameters)), AUTO), param="tools")
    assert caught.value.param is not None
    assert caught.value.param.startswith("tools[1]")


def test_very_many_tools() -> None:
    """Two hundred tools with the same beginning are told apart."""
    tools = tuple(
        Tool(f"tool_{number}", parameters=f'{{"properties": {{"a": {{"const": {number}}}}}, "required": ["a"]}}')
        for number in range(200)
    )
    for choice in (AUTO, REQUIRED):
        made = matcher(choice, tools=tools)
        assert admits(made, write_call("tool_1", '{"a": 1}') + "\n" + write_call("tool_19", '{"a": 19}'))
        assert not admits(made, write_call("tool_19", '{"a": 1}'))
