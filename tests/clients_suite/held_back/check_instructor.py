"""instructor, in each of its modes that an OpenAI-compatible server can serve."""

from __future__ import annotations

from typing import Any, Literal

import instructor
import pytest
from daemon import MODEL
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, ConfigDict

FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: dict[str, Any] = {"model": MODEL, "messages": FRANCE, "temperature": 0, "max_tokens": 400, "max_retries": 0}


class Mood(BaseModel):
    """The customer's mood."""

    model_config = ConfigDict(extra="forbid")
    mood: Literal["good", "bad"]
    sure: bool


MODES = [
    instructor.Mode.TOOLS,
    instructor.Mode.TOOLS_STRICT,
    instructor.Mode.JSON_SCHEMA,
]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_create(base_url: str, mode: instructor.Mode) -> None:
    """The caller's own type."""
    client = instructor.from_openai(OpenAI(base_url=base_url, api_key="none"), mode=mode)
    assert isinstance(client.create(response_model=Mood, **GREEDY), Mood)


async def test_async_create(base_url: str) -> None:
    """The same from asyncio."""
    async with AsyncOpenAI(base_url=base_url, api_key="none") as raw:
        client = instructor.from_openai(raw, mode=instructor.Mode.TOOLS)
        assert isinstance(await client.create(response_model=Mood, **GREEDY), Mood)


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA], ids=lambda mode: mode.value)
def test_partial(base_url: str, mode: instructor.Mode) -> None:
    """The type filled bit by bit out of a stream."""
    client = instructor.from_openai(OpenAI(base_url=base_url, api_key="none"), mode=mode)
    parts = list(client.create_partial(response_model=Mood, **GREEDY))
    assert parts[-1].mood in {"good", "bad"}


def test_responses(base_url: str) -> None:
    """Over `/v1/responses`."""
    client = instructor.from_openai(OpenAI(base_url=base_url, api_key="none"), mode=instructor.Mode.RESPONSES_TOOLS)
    options = {"model": MODEL, "input": FRANCE, "temperature": 0, "max_output_tokens": 400, "max_retries": 0}
    assert isinstance(client.responses.create(response_model=Mood, **options), Mood)
