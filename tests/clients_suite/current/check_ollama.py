"""Ollama's Python package."""

from __future__ import annotations

import json
from typing import Any, Literal

import ollama
import pytest
from pictures import red_square
from pydantic import BaseModel, ConfigDict

FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."
GREEDY = {"temperature": 0, "num_predict": 100}


class Mood(BaseModel):
    """What replies are held to."""

    mood: Literal["good", "bad"]
    model_config = ConfigDict(extra="forbid")


@pytest.fixture
def client(url: str) -> ollama.Client:
    """The package's client."""
    return ollama.Client(url)


def test_chat(client: ollama.Client, model: str) -> None:
    """A whole answer, and the same as a stream."""
    assert client.chat(model, FRANCE, options=GREEDY).message.content == PARIS
    parts = list(client.chat(model, FRANCE, options=GREEDY, stream=True))
    assert "".join(part.message.content or "" for part in parts) == PARIS
    assert parts[-1].done
    assert parts[-1].done_reason == "stop"


async def test_async_chat(url: str, model: str) -> None:
    """The same from asyncio."""
    reply = await ollama.AsyncClient(url).chat(model, FRANCE, options=GREEDY)
    assert reply.message.content == PARIS


def test_generate(client: ollama.Client, model: str) -> None:
    """The older call."""
    assert client.generate(model, "What is the capital of France?", options=GREEDY).response == PARIS


def test_format(client: ollama.Client, model: str) -> None:
    """A schema holds the reply."""
    reply = client.chat(model, FRANCE, options=GREEDY, format=Mood.model_json_schema())
    Mood.model_validate(json.loads(reply.message.content or ""))


def test_image(client: ollama.Client, model: str) -> None:
    """A picture reaches the model."""
    message = {"role": "user", "content": "What is it?", "images": [red_square().partition(",")[2]]}
    assert client.chat(model, [message], options=GREEDY).message.content


def test_tools_are_told(client: ollama.Client, model: str) -> None:
    """A Python function is a tool; Ollama has no way to force a call."""

    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: Which.
        """
        return city

    reply = client.chat(model, FRANCE, tools=[get_weather], options=GREEDY)
    assert reply.message.role == "assistant"


def test_catalogue(client: ollama.Client, model: str) -> None:
    """What editors look for."""
    (only,) = client.list().models
    assert (only.model or "").startswith(model)
    shown = client.show(model)
    assert set(shown.capabilities or ()) >= {"completion", "tools", "vision"}
    assert client.ps().models


def test_errors(client: ollama.Client) -> None:
    """They are the package's own class."""
    with pytest.raises(ollama.ResponseError) as missing:
        client.chat("llama-x", FRANCE)
    assert missing.value.status_code == 404
