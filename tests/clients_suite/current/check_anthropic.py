"""Anthropic's Python SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from pictures import red_square

FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0}
"""The newest SDK has no argument for it."""
PARIS = "The capital of France is Paris."
TOOL: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"unit": {"type": "string", "enum": ["C", "F"]}},
        "required": ["unit"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def client(url: str) -> Iterator[Anthropic]:
    """The SDK, strict."""
    with Anthropic(base_url=url, api_key="none", max_retries=0, _strict_response_validation=True) as client:
        yield client


def test_create(client: Anthropic, model: str) -> None:
    """A whole message."""
    message = client.messages.create(model=model, messages=FRANCE, max_tokens=40, extra_body=GREEDY, system="Be kind.")
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 1


def test_stream(client: Anthropic, model: str) -> None:
    """`.stream()` gathers text and the final message."""
    with client.messages.stream(model=model, messages=FRANCE, max_tokens=40, extra_body=GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == PARIS
    assert final.content[0].text == PARIS


async def test_async_stream(url: str, model: str) -> None:
    """The same from asyncio."""
    async with (
        AsyncAnthropic(base_url=url, api_key="none", max_retries=0, _strict_response_validation=True) as client,
        client.messages.stream(model=model, messages=FRANCE, max_tokens=40, extra_body=GREEDY) as stream,
    ):
        assert await stream.get_final_text() == PARIS


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}], ids=["any", "tool"])
def test_tool_use(client: Anthropic, model: str, choice: Any) -> None:
    """A forced call, streamed, and its result told."""
    messages = [{"role": "user", "content": "Weather?"}]
    with client.messages.stream(
        model=model, messages=messages, tools=[TOOL], tool_choice=choice, max_tokens=400, extra_body=GREEDY
    ) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    uses = [block for block in final.content if block.type == "tool_use"]
    assert uses
    assert all(use.input["unit"] in {"C", "F"} for use in uses)
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "18"} for use in uses]
    messages += [{"role": "assistant", "content": final.content}, {"role": "user", "content": results}]
    after = client.messages.create(model=model, messages=messages, tools=[TOOL], max_tokens=40)
    assert after.role == "assistant"


def test_image(client: Anthropic, model: str) -> None:
    """A picture in base64 reaches the model."""
    source = {"type": "base64", "media_type": "image/png", "data": red_square().partition(",")[2]}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    message = client.messages.create(
        model=model, messages=[{"role": "user", "content": parts}], max_tokens=40, extra_body=GREEDY
    )
    assert message.content[0].type == "text"


def test_count_tokens(client: Anthropic, model: str) -> None:
    """The count is that of the usage."""
    counted = client.messages.count_tokens(model=model, messages=FRANCE).input_tokens
    used = client.messages.create(model=model, messages=FRANCE, max_tokens=4).usage
    assert counted == used.input_tokens + (used.cache_read_input_tokens or 0)


def test_errors(client: Anthropic, model: str) -> None:
    """They are the SDK's own classes."""
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude-x", messages=FRANCE, max_tokens=4)
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model=model, messages=FRANCE, max_tokens=4, extra_body={"temperature": 9})
