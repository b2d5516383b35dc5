"""pydantic-ai, over chat completions and over responses."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from daemon import MODEL
from pictures import red_square
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."


class Mood(BaseModel):
    """The customer's mood."""

    mood: Literal["good", "bad"]
    sure: bool


@pytest.fixture(params=[OpenAIChatModel, OpenAIResponsesModel], ids=["chat", "responses"])
def served(request: pytest.FixtureRequest, base_url: str) -> Any:
    """The bundled model."""
    return request.param(
        MODEL,
        provider=OpenAIProvider(base_url=base_url, api_key="none"),
        settings={"temperature": 0, "max_tokens": 400},
    )


async def test_text(served: Any) -> None:
    """A run, and a second one that knows the first."""
    agent = Agent(served)
    first = await agent.run(FRANCE)
    assert first.output == PARIS
    assert first.usage.output_tokens > 0
    assert (await agent.run("Hello!", message_history=first.all_messages())).output


async def test_stream(served: Any) -> None:
    """Text as it is said."""
    async with Agent(served).run_stream(FRANCE) as run:
        parts = [part async for part in run.stream_text(delta=True)]
    assert "".join(parts) == PARIS


@pytest.mark.parametrize("kind", [ToolOutput, NativeOutput])
async def test_output_type(served: Any, kind: Any) -> None:
    """The caller's own type, by a call that is forced and by a schema."""
    result = await Agent(served, output_type=kind(Mood)).run(FRANCE)
    assert isinstance(result.output, Mood)


async def test_image(served: Any) -> None:
    """A picture reaches the model."""
    result = await Agent(served).run(["What is it?", BinaryContent.from_data_uri(red_square())])
    assert "red" in result.output
