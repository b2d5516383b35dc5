"""Tools in chat completions, through the official SDK. What the worker says is written by the test."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.lib.streaming.chat import FunctionToolCallArgumentsDeltaEvent, FunctionToolCallArgumentsDoneEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from gemmad.generation import Tool, ToolChoice
from gemmad.grammar.spec import Calls, JsonObject
from gemmad.text.opening import write_call
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_bad_input import GOOD, URL, refused
from tests.api.test_chat import HI
from tests.api.test_parameters import prompt
from tests.api.test_wire import events

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Look somewhere.",
            "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
        },
    },
    {"type": "function", "function": {"name": "wait", "strict": True}},
]
LOOK = Tool("look", "Look somewhere.", json.dumps(TOOLS[0]["function"]["parameters"]))
WAIT = Tool("wait", strict=True)
ASK: Any = {"model": MODEL, "messages": HI, "tools": TOOLS}
SKY = write_call("look", '{"at": "the sky"}')
SEA = write_call("look", '{"at": "the \\"sea\\""}')


def test_a_call(stage: Stage, client: OpenAI) -> None:
    """A call has an id, a name and arguments; beside it the content is null, and the reply ends for its sake."""
    stage.say(SKY)
    choice = client.chat.completions.create(**ASK).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.id.startswith("call_")
    assert call.function.name == "look"
    assert json.loads(call.function.arguments) == {"at": "the sky"}


def test_text_and_calls(stage: Stage, client: OpenAI) -> None:
    """What is said before calls is the content; several calls have ids of their own, over replies too."""
    stage.say(f"Let me see.\n{SKY}\n{SEA}")
    ids = set()
    for _ in range(2):
        message = client.chat.completions.create(**ASK).choices[0].message
        assert (message.content or "").strip() == "Let me see."
        calls = message.tool_calls or []
        assert [json.loads(call.function.arguments)["at"] for call in calls] == ["the sky", 'the "sea"']
        ids |= {call.id for call in calls}
    assert len(ids) == 4


def test_text_alone(stage: Stage, client: OpenAI) -> None:
    """A reply without calls is what it would be without tools: no list of calls, its text, and stop."""
    stage.say("The sky is blue.")
    choice = client.chat.completions.create(**ASK).choices[0]
    assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == (
        "stop",
        "The sky is blue.",
        None,
    )


def test_the_events_of_calls(stage: Stage, http: httpx.Client) -> None:
    """The first delta of a call has index, id, type, name and empty arguments, later ones its index and arguments; each
    is a chunk."""
    stage.say(f"{SKY}\n{SEA}", pause_seconds=0.001)
    *chunks, done = events(http.post(URL, json={**ASK, "stream": True}).text)
    assert done == "[DONE]"
    first, *middle, last = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert (last["delta"], last["finish_reason"]) == ({}, "tool_calls")
    begun: dict[int, str] = {}
    arguments = ["", ""]
    for choice in middle:
        assert choice["delta"].keys() == {"tool_calls"}
        assert len(choice["delta"]["tool_calls"]) == 1
        for delta in choice["delta"]["tool_calls"]:
            index = delta["index"]
            if index not in begun:
                begun[index] = delta["id"]
                assert delta.keys() == {"index", "id", "type", "function"}
                assert delta["type"] == "function"
                assert delta["function"] == {"name": "look", "arguments": ""}
            else:
                assert delta.keys() == {"index", "function"}
                assert delta["function"].keys() == {"arguments"}
            arguments[index] += delta["function"]["arguments"]
    assert list(begun) == [0, 1]
    assert [json.loads(each)["at"] for each in arguments] == ["the sky", 'the "sea"']
    assert len(middle) > 6


class look(BaseModel):  # noqa: N801  # the SDK names the tool after it
    """Look somewhere."""

    at: str


def test_the_stream_helper(stage: Stage, client: OpenAI) -> None:
    """The SDK's `.stream()` and `.parse()` put calls together and parse their arguments."""
    stage.say(SKY, pause_seconds=0.001)
    tools: Any = [openai.pydantic_function_tool(look)]
    with client.chat.completions.stream(model=MODEL, messages=HI, tools=tools) as stream:
        seen = [type(event) for event in stream]
        final = stream.get_final_completion()
    assert FunctionToolCallArgumentsDeltaEvent in seen
    assert FunctionToolCallArgumentsDoneEvent in seen
    whole = client.chat.completions.parse(model=MODEL, messages=HI, tools=tools)
    for reply in (final, whole):
        (call,) = reply.choices[0].message.tool_calls or []
        assert call.function.parsed_arguments == look(at="the sky")


def test_strict_types(stage: Stage) -> None:
    """Completions and chunks with calls pass the SDK's own types when it validates strictly."""
    stage.say(f"Well.\n{SKY}", pause_seconds=0.001)
    with stage.client(_strict_response_validation=True) as client:
        assert isinstance(client.chat.completions.create(**ASK), ChatCompletion)
        stream = client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
        assert all(isinstance(chunk, ChatCompletionChunk) for chunk in stream)


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, ToolChoice()),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, ToolChoice(parallel=False)),
        ({"tool_choice": "required"}, ToolChoice("required")),
        (
            {"tool_choice": {"type": "function", "function": {"name": "look"}}},
            ToolChoice("required", ("look",), parallel=False),
        ),
        (
            {"tool_choice": {"type": "function", "function": {"name": "look"}}, "parallel_tool_calls": True},
            ToolChoice("required", ("look",)),
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "wait"}}],
                    },
                }
            },
            ToolChoice("required", ("wait",)),
        ),
    ],
)
def test_choices_of_tools(stage: Stage, client: OpenAI, fields: Any, choice: ToolChoice) -> None:
    """What the model may call, must call and how often reaches the grammar that holds the reply."""
    stage.say(SKY)
    client.chat.completions.create(**ASK, **fields)
    assert stage.grammars.asked == [(Calls((LOOK, WAIT), choice), "tools")]
    assert stage.worker.submits[0].sampling.grammar == "grammar 1"


def test_no_calls(stage: Stage, client: OpenAI) -> None:
    """With tool_choice none what looks like a call is text, and nothing holds it."""
    stage.say(SKY)
    choice = client.chat.completions.create(**ASK, tool_choice="none").choices[0]
    assert (choice.message.content, choice.finish_reason) == (SKY, "stop")
    assert stage.grammars.asked == []


def test_a_form_for_what_is_no_call(stage: Stage, client: OpenAI) -> None:
    """With a form too, a reply is calls or of that form; where a call is required the form means nothing."""
    form: Any = {"response_format": {"type": "json_object"}}
    client.chat.completions.create(**ASK, **form)
    assert stage.grammars.asked[-1] == (Calls((LOOK, WAIT), ToolChoice(), JsonObject()), "tools")
    stage.grammars.asked.clear()
    client.chat.completions.create(**ASK, **form, tool_choice="required")
    assert stage.grammars.asked == [(Calls((LOOK, WAIT), ToolChoice("required")), "tools")]


def test_a_call_that_is_cut_off(stage: Stage, client: OpenAI) -> None:
    """At the length limit a half call is left out of the whole answer, and the reason is length."""
    stage.play(Script(token_ids=stage.tokens(SKY)))
    reply = client.chat.completions.create(**ASK, tool_choice="required", max_tokens=len(stage.tokens(SKY)) - 2)
    choice = reply.choices[0]
    assert (choice.finish_reason, choice.message.tool_calls) == ("length", None)


def test_several_rounds(stage: Stage, client: OpenAI) -> None:
    """Calls and their results are said to the model in the next turn, and it can go on from there."""
    stage.say(f"{SKY}\n{SEA}")
    first = client.chat.completions.create(**ASK).choices[0].message
    results: list[Any] = [
        {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": f"result {index}"}]}
        for index, call in enumerate(first.tool_calls or [])
    ]
    stage.say("Both are blue.")
    messages: Any = [*HI, first, *results]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0]
    assert second.message.content == "Both are blue."
    told = prompt(stage)
    assert told.index("<start_of_turn>model") < told.index(SKY) < told.index("result 0") < told.index("result 1")
    assert '"name": "look"' in told
    assert "Look somewhere." in told


def test_several_choices(stage: Stage, client: OpenAI) -> None:
    """Each choice has its own calls, with ids of their own."""
    stage.say(SKY, pause_seconds=0.001)
    reply = client.chat.completions.create(**ASK, n=3)
    assert {choice.finish_reason for choice in reply.choices} == {"tool_calls"}
    assert len({(choice.message.tool_calls or [])[0].id for choice in reply.choices}) == 3


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools[2]"),
        ({"tools": TOOLS * 257}, "tools"),
    ],
)
def test_wrong_tools(http: httpx.Client, change: dict[str, Any], param: str) -> None:
    """A choice of a tool that is not there, and two tools of one name, are refused by name."""
    assert refused(http.post(URL, json={**GOOD, "tools": TOOLS, **change}))["param"] == param


def test_arguments_that_are_no_json(stage: Stage, client: OpenAI) -> None:
    """What a client sends back as arguments is no error, whatever some model has made of it."""
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"at": "the'}}
    messages: Any = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "That was no JSON."},
    ]
    assert client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices
    assert "That was no JSON." in prompt(stage)
