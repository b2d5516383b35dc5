"""Tools over several rounds, as Anthropic's SDK has them."""

from __future__ import annotations

import json
from typing import Any

import httpx
from anthropic import Anthropic, beta_tool
from anthropic.types import MessageParam, ToolParam

from tests.api.anthropic.events import events, put_together
from tests.api.anthropic.test_messages import BODY, URL, prompt
from tests.api.stage import MODEL, Script, Stage

WEATHER: ToolParam = {
    "name": "weather",
    "description": "The weather at a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
QUESTION: MessageParam = {"role": "user", "content": "How is it in Kiel?"}


def call(place: str) -> str:
    """As the model writes one."""
    return json.dumps({"name": "weather", "parameters": {"place": place}})


def test_two_rounds(stage: Stage, claude: Anthropic) -> None:
    """A call comes out as a block, its result goes in, and the model answers with both before it."""
    stage.say(call("Kiel"))
    asked = claude.messages.create(model=MODEL, max_tokens=100, messages=[QUESTION], tools=[WEATHER])
    assert asked.stop_reason == "tool_use"
    [block] = asked.content
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("weather", {"place": "Kiel"})
    stage.say("It rains.")
    result: MessageParam = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "rain, 9 degrees"}],
    }
    history = [QUESTION, asked.to_param(), result]
    answer = claude.messages.create(model=MODEL, max_tokens=100, messages=history, tools=[WEATHER])
    assert answer.stop_reason == "end_turn"
    assert '{"name": "weather", "parameters": {"place": "Kiel"}}' in prompt(stage)
    assert "rain, 9 degrees" in prompt(stage)


def test_calls_in_a_stream(stage: Stage, http: httpx.Client) -> None:
    """Several calls are several blocks, each begun with an empty input that grows as JSON text."""
    stage.say(f"{call('Kiel')}\n{call('Rom')}")
    stream = http.post(URL, json=BODY | {"stream": True, "tools": [WEATHER], "messages": [QUESTION]}).content
    blocks, delta = put_together(events(stream))
    assert delta["delta"]["stop_reason"] == "tool_use"
    assert [(block["type"], block["name"], block["input"]) for block in blocks] == [("tool_use", "weather", {})] * 2
    assert [json.loads(block["json"]) for block in blocks] == [{"place": "Kiel"}, {"place": "Rom"}]
    assert len({block["id"] for block in blocks}) == 2


def test_the_sdk_runs_the_tools(stage: Stage, claude: Anthropic) -> None:
    """The SDK's own loop calls the function and sends back what it gives, until there is an answer."""

    @beta_tool
    def weather(place: str) -> str:
        """The weather at a place."""
        return f"rain in {place}"

    replies = [call("Kiel"), "It rains."]
    end = stage.text.stop_token_ids[-1]
    stage.play(lambda _submit: Script(token_ids=(*stage.tokens(replies.pop(0)), end)))
    runner = claude.beta.messages.tool_runner(model=MODEL, max_tokens=100, messages=[QUESTION], tools=[weather])  # type: ignore[list-item]
    last = runner.until_done()
    assert [block.text for block in last.content if block.type == "text"] == ["It rains."]
    assert "rain in Kiel" in prompt(stage)


def test_a_call_that_is_cut_off(stage: Stage, claude: Anthropic) -> None:
    """A call that the limit cuts off is no block of a whole message."""
    stage.say(call("Kiel"))
    fields: dict[str, Any] = {"model": MODEL, "messages": [QUESTION], "tools": [WEATHER]}
    length = len(stage.tokens(call("Kiel")))
    reply = claude.messages.create(**fields, max_tokens=length - 3)
    assert reply.stop_reason == "max_tokens"
    assert not [block for block in reply.content if block.type == "tool_use"]
