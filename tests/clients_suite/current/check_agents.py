"""openai-agents, over chat completions and over responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from daemon import MODEL
from openai import AsyncOpenAI
from pydantic import BaseModel

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 400}
set_tracing_disabled(True)  # traces would go to OpenAI


class Mood(BaseModel):
    """The final answer."""

    mood: Literal["good", "bad"]


@function_tool
def switch(light: Literal["on", "off"]) -> str:
    """Switch the light."""
    return f"It is {light}."


@pytest.fixture(params=[OpenAIChatCompletionsModel, OpenAIResponsesModel], ids=["chat", "responses"])
async def served(request: pytest.FixtureRequest, base_url: str) -> AsyncIterator[Any]:
    """The bundled model."""
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        yield request.param(model=MODEL, openai_client=client)


async def test_run(served: Any) -> None:
    """A turn."""
    agent = Agent(name="x", model=served, model_settings=ModelSettings(**GREEDY))
    assert (await Runner.run(agent, FRANCE)).final_output == PARIS


async def test_streamed(served: Any) -> None:
    """A turn as events."""
    agent = Agent(name="x", model=served, model_settings=ModelSettings(**GREEDY))
    run = Runner.run_streamed(agent, FRANCE)
    kinds = {event.type async for event in run.stream_events()}
    assert run.final_output == PARIS
    assert "raw_response_event" in kinds


async def test_tool(served: Any) -> None:
    """A forced call is made, its result told, and the run ends."""
    settings = ModelSettings(tool_choice="required", parallel_tool_calls=False, **GREEDY)
    agent = Agent(name="x", model=served, tools=[switch], model_settings=settings)
    run = await Runner.run(agent, "Switch the light on.", max_turns=3)
    assert any(
        item.type == "tool_call_output_item" and str(item.output).startswith("It is o") for item in run.new_items
    )


async def test_output_type(served: Any) -> None:
    """The caller's own type."""
    agent = Agent(name="x", model=served, output_type=Mood, model_settings=ModelSettings(**GREEDY))
    assert isinstance((await Runner.run(agent, FRANCE)).final_output, Mood)
