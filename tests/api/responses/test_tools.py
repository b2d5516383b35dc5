"""Functions and structured output through the official SDK."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.api.responses.strict import checked_response, kinds, stream
from tests.api.stage import MODEL, Script, Stage

SCHEMA = {
    "type": "object",
    "properties": {"at": {"type": "string"}},
    "required": ["at"],
    "additionalProperties": False,
}
LOOK: dict[str, Any] = {
    "type": "function",
    "name": "look",
    "description": "Looks.",
    "parameters": SCHEMA,
    "strict": True,
}
CALL = '{"name": "look", "parameters": {"at": "sky"}}'
ASK = {"role": "user", "content": "What is up?"}


class Colour(BaseModel):
    name: str
    warm: bool


def test_two_rounds(stage: Stage, client: OpenAI) -> None:
    """A call is an item of the response; its result goes with the next request, by id or with all the history."""
    stage.say(CALL)
    first = client.responses.create(model=MODEL, input="What is up?", tools=[LOOK])  # type: ignore[list-item]
    (call,) = first.output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments), call.status) == ("look", {"at": "sky"}, "completed")
    assert first.status == "completed"
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "blue"}
    stage.say("It is blue.")
    chained = client.responses.create(
        model=MODEL,
        input=[result],
        previous_response_id=first.id,
        tools=[LOOK],  # type: ignore[list-item]
    )
    history: Any = [ASK, call.model_dump(exclude_none=True), result]
    whole = client.responses.create(model=MODEL, input=history, tools=[LOOK])  # type: ignore[list-item]
    assert chained.output_text == whole.output_text == "It is blue."
    assert stage.worker.submits[1].prompt == stage.worker.submits[2].prompt


def test_a_result_with_a_picture(stage: Stage, client: OpenAI, red_circle: str) -> None:
    """What a call gave back can be parts, images among them."""
    given: Any = [
        ASK,
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at": "sky"}'},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "see:"}, {"type": "input_image", "image_url": red_circle}],
        },
    ]
    client.responses.create(model=MODEL, input=given)
    assert len(stage.worker.submits[0].prompt.images) == 1


def test_streamed_calls(stage: Stage, http: httpx.Client) -> None:
    """Calls are items of the stream, their arguments in pieces that add up, each call with an id of its own."""
    stage.say(f"{CALL}\n{CALL.replace('sky', 'sea')}", pause_seconds=0.001)
    events = stream(http, {"model": MODEL, "input": [ASK], "tools": [LOOK], "tool_choice": "required"})
    told = [kind for kind in kinds(events) if kind != "function_call_arguments.delta"]
    item = ["output_item.added", "function_call_arguments.done", "output_item.done"]
    assert told == ["created", "in_progress", *item, *item, "completed"]
    for index, at in enumerate(("sky", "sea")):
        mine = [event for event in events if event.get("output_index") == index]
        arguments = "".join(event["delta"] for event in mine if "delta" in event)
        assert json.loads(arguments) == {"at": at}
        assert mine[-1]["item"]["arguments"] == mine[-2]["arguments"] == arguments
    first, second = events[-1]["response"]["output"]
    assert first["call_id"] != second["call_id"]


def test_the_stream_helper_with_tools(stage: Stage, client: OpenAI) -> None:
    """The SDK's `.stream()` accumulates the arguments."""
    stage.say(CALL, pause_seconds=0.001)
    with client.responses.stream(model=MODEL, input="What is up?", tools=[LOOK]) as opened:  # type: ignore[list-item]
        snapshots = [event.snapshot for event in opened if event.type == "response.function_call_arguments.delta"]
        final = opened.get_final_response()
    assert final.output[0].type == "function_call"
    assert snapshots[-1] == final.output[0].arguments


@pytest.mark.parametrize("streamed", [False, True])
def test_half_a_call(stage: Stage, http: httpx.Client, streamed: bool) -> None:
    """A call that the length cuts off is not in the response, which is incomplete."""
    tokens = stage.tokens(CALL)
    stage.play(Script(token_ids=tokens))
    body = {"model": MODEL, "input": [ASK], "tools": [LOOK], "max_output_tokens": len(tokens) - 4}
    response = stream(http, body)[-1]["response"] if streamed else http.post("/v1/responses", json=body).json()
    assert (response["status"], response["output"]) == ("incomplete", [])


def test_parse(stage: Stage, client: OpenAI) -> None:
    """`.parse()` gets an object of the client's own class, from a reply that is held to its schema."""
    stage.say('{"name": "red", "warm": true}')
    response = client.responses.parse(model=MODEL, input="A colour?", text_format=Colour)
    assert response.output_parsed == Colour(name="red", warm=True)
    assert stage.worker.submits[0].sampling.grammar is not None
    with client.responses.stream(model=MODEL, input="A colour?", text_format=Colour) as opened:
        assert opened.get_final_response().output_parsed == Colour(name="red", warm=True)


@pytest.mark.parametrize(
    "form",
    [{"type": "json_object"}, {"type": "json_schema", "name": "colour", "schema": SCHEMA, "strict": True}],
    ids=["object", "schema"],
)
def test_formats(stage: Stage, http: httpx.Client, form: dict[str, Any]) -> None:
    """A format holds the reply, and is told again."""
    stage.say('{"at": "sky"}')
    answer = http.post("/v1/responses", json={"model": MODEL, "input": "Hi", "text": {"format": form}})
    response = checked_response(answer.content)
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == form["type"]
    assert stage.worker.submits[0].sampling.grammar is not None


def test_as_codex_asks(stage: Stage, http: httpx.Client) -> None:
    """The Codex CLI's request is served: its instructions, its items, its tools, the one it cannot have left out."""
    shell = {
        "type": "function",
        "name": "shell",
        "description": "Runs a shell command and returns its output.",
        "strict": False,
        "parameters": {
            "type": "object",
            "properties": {
                "command": {"type": "array", "items": {"type": "string"}, "description": "The command"},
                "workdir": {"type": "string"},
                "timeout_ms": {"type": "number"},
            },
            "required": ["command"],
            "additionalProperties": False,
        },
    }
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
    namespace = {"type": "namespace", "name": "mcp__docs__", "description": "Docs.", "tools": [LOOK]}
    stage.say('{"name": "shell", "parameters": {"command": ["ls"]}}')
    events = stream(
        http,
        {
            "model": MODEL,
            "instructions": "You are a coding agent.",
            "input": [
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be safe."}]},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files."}]},
                {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "x"},
                {"type": "function_call", "name": "shell", "arguments": '{"command":["pwd"]}', "call_id": "call_1"},
                {"type": "function_call_output", "call_id": "call_1", "output": '{"output":"/"}'},
            ],
            "tools": [
                shell,
                {"type": "web_search", "external_web_access": False},
                {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": grammar},
                namespace,
            ],
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "reasoning": None,
            "store": False,
            "include": [],
            "prompt_cache_key": "0199",
            "client_metadata": {"x": "y"},
        },
    )
    (call,) = events[-1]["response"]["output"]
    assert (call["name"], json.loads(call["arguments"])) == ("shell", {"command": ["ls"]})
    assert [tool["type"] for tool in events[-1]["response"]["tools"]] == ["function", "namespace"]
    stage.say('{"name": "mcp__docs__look", "parameters": {"at": "sky"}}')
    events = stream(http, {"model": MODEL, "input": [ASK], "tools": [namespace]})
    (call,) = events[-1]["response"]["output"]
    assert (call["name"], call["namespace"]) == ("look", "mcp__docs__")
