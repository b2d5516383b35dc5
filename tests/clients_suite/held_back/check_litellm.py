"""LiteLLM, by each of its ways to a server like this."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import litellm
import pytest
from daemon import MODEL

FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."
TOOL: Any = {  # LiteLLM changes what it is given: every call takes a copy
    "type": "function",
    "function": {
        "name": "switch",
        "parameters": {
            "type": "object",
            "properties": {"light": {"type": "string", "enum": ["on", "off"]}},
            "required": ["light"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(params=["openai", "hosted_vllm", "ollama_chat", "anthropic"])
def where(request: pytest.FixtureRequest, url: str) -> dict[str, Any]:
    """Provider, address and key."""
    base = f"{url}/v1" if request.param in {"openai", "hosted_vllm"} else url
    return {
        "model": f"{request.param}/{MODEL}",
        "api_base": base,
        "api_key": "none",
        "temperature": 0,
        "max_tokens": 400,
        "num_retries": 0,
    }


def test_completion(where: dict[str, Any]) -> None:
    """Whole and streamed."""
    assert litellm.completion(messages=FRANCE, **where).choices[0].message.content == PARIS
    chunks = list(litellm.completion(messages=FRANCE, stream=True, stream_options={"include_usage": True}, **where))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == PARIS


async def test_async_completion(where: dict[str, Any]) -> None:
    """The same from asyncio."""
    assert (await litellm.acompletion(messages=FRANCE, **where)).choices[0].message.content == PARIS


@pytest.mark.parametrize("stream", [False, True])
def test_tool_call(where: dict[str, Any], stream: bool) -> None:
    """A forced call."""
    if where["model"].startswith("ollama"):
        pytest.skip("Ollama's API has no way to force a call")
    reply: Any = litellm.completion(
        messages=FRANCE, tools=[deepcopy(TOOL)], tool_choice="required", stream=stream, **where
    )
    if stream:
        reply = litellm.stream_chunk_builder(list(reply))
    calls = reply.choices[0].message.tool_calls
    assert calls
    assert all(json.loads(call.function.arguments)["light"] in {"on", "off"} for call in calls)


def test_schema(where: dict[str, Any]) -> None:
    """`response_format` holds the reply."""
    if where["model"].startswith("anthropic"):
        pytest.skip("LiteLLM asks for it by a tool whose schema its list of Anthropic's models decides")
    schema = {"name": "x", "schema": deepcopy(TOOL["function"]["parameters"]), "strict": True}
    reply = litellm.completion(messages=FRANCE, response_format={"type": "json_schema", "json_schema": schema}, **where)
    assert json.loads(reply.choices[0].message.content)["light"] in {"on", "off"}


def test_text_completion(base_url: str) -> None:
    """The old endpoint."""
    reply = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", prompt="Once", api_base=base_url, api_key="none", max_tokens=4
    )
    assert reply.choices[0].text


def test_responses(base_url: str) -> None:
    """`/v1/responses`."""
    reply = litellm.responses(
        model=f"openai/{MODEL}", input=FRANCE, api_base=base_url, api_key="none", temperature=0, max_output_tokens=40
    )
    assert reply.output[0].content[0].text == PARIS


def test_errors(base_url: str) -> None:
    """They are its own classes."""
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(
            model=f"openai/{MODEL}",
            messages=[{"role": "user", "content": "word " * 20_000}],
            api_base=base_url,
            api_key="none",
        )
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/gpt-9", messages=FRANCE, api_base=base_url, api_key="none")
