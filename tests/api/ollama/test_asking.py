"""Requests in Ollama's words, as all dialects mean them."""

from __future__ import annotations

from typing import Any

import pytest

from gemmad.api.asks import Ask, Conversation, ImageAsked, PlainText, Wishes
from gemmad.api.ollama.asking import chat_ask, generate_ask
from gemmad.api.ollama.parameters import OLLAMA_CHAT, OLLAMA_GENERATE, refuse_unsupported
from gemmad.api.ollama.schema import ChatRequest, GenerateRequest, parse
from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool
from gemmad.grammar.spec import JsonObject, JsonSchema
from gemmad.text.messages import CallPart, ImagePart, Message, ResultPart, TextPart

USER = {"role": "user", "content": "Hi"}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": {"b": {}}}}


def calls(*functions: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": [{"function": function} for function in functions]}


def chat(**fields: Any) -> Ask:
    body = {"model": "gemma", "messages": [USER], **fields}
    refuse_unsupported(OLLAMA_CHAT, body)
    return chat_ask(parse(ChatRequest, body), model="gemma", max_images=2)


def generate(**fields: Any) -> Ask:
    body = {"model": "gemma", "prompt": "Hi", **fields}
    refuse_unsupported(OLLAMA_GENERATE, body)
    return generate_ask(parse(GenerateRequest, body), model="gemma", max_images=2)


def talk(*messages: dict[str, Any]) -> Conversation:
    prompt = chat(messages=list(messages)).prompt
    assert isinstance(prompt, Conversation)
    return prompt


def test_pictures() -> None:
    """Pictures come before the words of their message, in the order in which they are shown."""
    said = talk(USER | {"images": ["AA", "BB"]})
    assert said.messages == (Message("user", (ImagePart(0), ImagePart(1), TextPart("Hi"))),)
    assert said.images == (
        ImageAsked("data:;base64,AA", "messages[0].images[0]"),
        ImageAsked("data:;base64,BB", "messages[0].images[1]"),
    )


def test_results_find_their_calls() -> None:
    """A result is of the call with its id, else of the first that waits and has its name, else of the first."""
    asked = calls({"name": "a", "arguments": {"z": 1, "b": 2}}, {"name": "b"}, {"name": "a", "arguments": {}})
    asked["tool_calls"][1]["id"] = "mine"
    said = talk(
        USER,
        asked,
        {"role": "tool", "content": "1", "tool_call_id": "mine"},
        {"role": "tool", "content": "2", "tool_name": "a"},
        {"role": "tool", "content": "3"},
    )
    assert said.messages[1].parts == (
        CallPart("call_1", "a", '{"z": 1, "b": 2}'),
        CallPart("mine", "b", "{}"),
        CallPart("call_3", "a", "{}"),
    )
    assert [message.parts for message in said.messages[2:]] == [
        (ResultPart("mine", "b"), TextPart("1")),
        (ResultPart("call_1", "a"), TextPart("2")),
        (ResultPart("call_3", "a"), TextPart("3")),
    ]


def test_options() -> None:
    """Options are wishes; what is below what can be wished for leaves it to the model."""
    options = {
        "num_predict": 7,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
        "seed": 5,
        "stop": ["x"],
        "repeat_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "num_ctx": 4096,
        "mirostat": 0,
        "something_new": 1,
    }
    assert chat(options=options).wishes == Wishes(
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        min_p=0.1,
        frequency_penalty=0.3,
        presence_penalty=0.2,
        repetition_penalty=1.1,
        seed=5,
        max_tokens=7,
        shorten=True,
        stop=("x",),
    )
    for nothing in (None, {}, {"num_predict": -1, "seed": -1}, {"num_predict": -2}):
        assert chat(options=nothing).wishes == Wishes(shorten=True)
    assert chat(options={"stop": "x"}).wishes.stop == ("x",)


def test_log_probabilities() -> None:
    """They are told where they are asked for, with as many others as are wanted."""
    assert chat(logprobs=True).wishes.logprobs == 0
    assert chat(logprobs=True, top_logprobs=3).wishes.logprobs == 3
    assert chat(logprobs=False, top_logprobs=3).wishes.logprobs is None


def test_formats() -> None:
    """Any object, or what a schema allows."""
    assert chat(format="json").grammar == generate(format="json").grammar == JsonObject()
    assert chat(format={"type": "object"}).grammar == JsonSchema('{"type": "object"}')
    assert chat(format="").grammar is None
    assert chat(format=None).grammar is None


def test_tools() -> None:
    """A tool's schema is told as it came; one without takes nothing."""
    asked = chat(tools=[WEATHER, {"type": "function", "function": {"name": "now"}}])
    assert asked.tools == (
        Tool("weather", "Tells it.", '{"b": {}}'),
        Tool("now", "", '{"type": "object", "properties": {}}'),
    )


def test_going_on() -> None:
    """A conversation that ends with the assistant is gone on with."""
    assert chat(messages=[USER, {"role": "assistant", "content": "The answer is"}]).continue_final
    assert not chat().continue_final


def test_generate() -> None:
    """A prompt is the user's turn after the system's; a raw one is gone on with as it stands."""
    assert generate(system="Be brief.", images=["AA"]).prompt == Conversation(
        (Message("system", (TextPart("Be brief."),)), Message("user", (ImagePart(0), TextPart("Hi")))),
        (ImageAsked("data:;base64,AA", "images[0]"),),
        param="prompt",
    )
    assert generate(raw=True).prompt == PlainText("Hi")
    assert generate(suffix="", template="", context=[], think=False) == generate()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"think": True}, "think"),
        ({"think": "high"}, "think"),
        ({"format": "xml"}, "format"),
        ({"format": 5}, "format"),
        ({"options": []}, "options"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"stop": ["x"] * 17}}, "options.stop"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER | {"images": ["A", "A", "A"]}]}, "messages[0].images[2]"),
        ({"messages": [{"role": "system", "content": "x", "images": ["A"]}]}, "messages[0].images"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1]"),
        ({"messages": [calls({"name": "a"}), {"role": "tool", "tool_call_id": "other"}]}, "messages[1]"),
        ({"messages": [USER | {"tool_calls": [{"function": {"name": "a"}}]}]}, "messages[0]"),
        ({"messages": [calls({"name": "a", "arguments": "{}"})]}, "messages[0].tool_calls[0].function.arguments"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"top_logprobs": 21}, "top_logprobs"),
    ],
)
def test_refusals(fields: dict[str, Any], param: str) -> None:
    """What cannot be honoured is refused, and the field at fault is named."""
    with pytest.raises(InvalidRequestError) as caught:
        chat(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "}"}, "suffix"),
        ({"template": "x"}, "template"),
        ({"context": [1]}, "context"),
        ({"raw": True, "images": ["A"]}, "images"),
        ({"prompt": 5}, "prompt"),
    ],
)
def test_refusals_of_generate(fields: dict[str, Any], param: str) -> None:
    """What a prompt cannot have is refused by name."""
    with pytest.raises(InvalidRequestError) as caught:
        generate(**fields)
    assert caught.value.param == param
