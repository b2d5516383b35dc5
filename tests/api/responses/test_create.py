"""Responses through the official SDK: what is said, how it is sampled, what is told of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from openai.types.responses import Response

from tests.api.responses.strict import checked_response
from tests.api.stage import MODEL, Stage
from tests.clients import run_async


def test_a_response(stage: Stage, client: OpenAI) -> None:
    """A string is the user's message; the response has the text, its status, and what it took."""
    stage.say("The circle is red.")
    response = client.responses.create(model=MODEL, input="What is red?")
    assert response.output_text == "The circle is red."
    assert (response.object, response.status, response.model) == ("response", "completed", MODEL)
    assert response.id.startswith("resp_")
    assert response.completed_at is not None
    (message,) = response.output
    assert message.type == "message"
    assert message.status == "completed"
    assert response.usage is not None
    assert response.usage.output_tokens == len(stage.tokens("The circle is red.")) + 1
    assert response.usage.input_tokens == len(stage.worker.submits[0].prompt.token_ids)
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.usage.input_tokens_details.cached_tokens == 3
    assert response.usage.output_tokens_details.reasoning_tokens == 0


def test_the_asynchronous_client(stage: Stage) -> None:
    """The asyncio SDK gets responses and streams as well."""

    async def talk() -> tuple[str, str]:
        async with stage.async_client() as client:
            whole = await client.responses.create(model=MODEL, input="Hi")
            async with client.responses.stream(model=MODEL, input="Hi") as stream:
                final = await stream.get_final_response()
            return whole.output_text, final.output_text

    assert run_async(talk()) == ("Hello there.", "Hello there.")


def test_a_body_fits_the_types_strictly(http: httpx.Client) -> None:
    """A response with everything that is told again passes the SDK's own types when they validate strictly."""
    body = {
        "model": MODEL,
        "input": "Hi",
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "top_p": 0.25,
        "max_output_tokens": 30,
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}],
        "tool_choice": "none",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "truncation": "disabled",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "service_tier": "auto",
        "user": "u",
        "include": ["reasoning.encrypted_content"],
        "made_up_tomorrow": {"x": [1]},
    }
    answer = http.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    response = checked_response(answer.content)
    assert response.metadata == {"a": "b"}
    assert (response.temperature, response.top_p, response.max_output_tokens) == (0.5, 0.25, 30)
    assert (response.instructions, response.tool_choice, response.parallel_tool_calls) == ("Be brief.", "none", False)
    assert response.reasoning is not None
    assert response.reasoning.effort == "low"
    assert response.text is not None
    assert response.text.verbosity == "low"
    assert (response.user, response.prompt_cache_key, response.safety_identifier) == ("u", "k", "s")
    assert [tool.type for tool in response.tools] == ["function"]


def test_defaults_are_told(stage: Stage, http: httpx.Client) -> None:
    """Temperature and top_p are told as they came to be: asked, configured, or the checkpoint's."""
    silent = checked_response(http.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).content)
    defaults = stage.text.defaults
    assert (silent.temperature, silent.top_p) == (defaults.temperature, defaults.top_p)
    with stage.settings(sampling={"temperature": 0.25}):
        configured = checked_response(http.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).content)
    assert configured.temperature == 0.25


def test_asked_values_reach_the_worker(stage: Stage, client: OpenAI) -> None:
    """What a request says about sampling counts, fields of other servers included."""
    client.responses.create(
        model=MODEL,
        input="Hi",
        temperature=0,
        top_p=0.5,
        max_output_tokens=9,
        extra_body={
            "top_k": -1,
            "min_p": 0.25,
            "seed": -(2**63),
            "frequency_penalty": 0.5,
            "presence_penalty": -0.5,
            "repetition_penalty": 1.5,
            "logit_bias": {"50": -100, "7": 3},
        },
    )
    sampling = stage.worker.submits[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0, 0, 0.5, 0.25)
    assert (sampling.seed, sampling.max_tokens) == (-(2**63), 9)
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.repetition_penalty) == (0.5, -0.5, 1.5)
    assert sampling.logit_bias == ((7, 3.0), (50, -100.0))


def test_the_length_limit(client: OpenAI) -> None:
    """max_output_tokens ends a response as incomplete, with the reason."""
    response = client.responses.create(model=MODEL, input="Hi", max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.completed_at is None
    assert response.output[0].type == "message"
    assert response.output[0].status == "incomplete"
    assert response.usage is not None
    assert response.usage.output_tokens == 2


def test_items_mean_what_chat_messages_mean(stage: Stage, client: OpenAI) -> None:
    """Roles, instructions and all shapes of content lead to the prompt that chat completions would make."""
    client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "A"},
            {"role": "assistant", "content": "B"},
            {"role": "user", "content": "C"},
        ],
    )
    client.responses.create(
        model=MODEL,
        instructions="Be brief.",
        input=[
            {"role": "user", "content": "A"},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "B", "annotations": []}],
            },
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "C"}]},
        ],
    )
    client.responses.create(
        model=MODEL,
        input=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "A"},
            {"role": "assistant", "content": "B"},
            {"role": "user", "content": "C"},
        ],
    )
    chat, instructed, developed = (submit.prompt for submit in stage.worker.submits)
    assert chat == instructed == developed


def test_an_image(stage: Stage, client: OpenAI, red_circle: str) -> None:
    """An image of the user's is seen."""
    image: Any = {"type": "input_image", "image_url": red_circle, "detail": "auto"}
    text: Any = {"type": "input_text", "text": "What is this?"}
    client.responses.create(model=MODEL, input=[{"role": "user", "content": [text, image]}])
    assert len(stage.worker.submits[0].prompt.images) == 1


def test_counting_tokens(stage: Stage, client: OpenAI, red_circle: str) -> None:
    """The count is what the prompt then takes, images and instructions included; nothing is computed for it."""
    given: Any = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": red_circle}],
        }
    ]
    count = client.responses.input_tokens.count(model=MODEL, instructions="Be brief.", input=given)
    assert count.object == "response.input_tokens"
    assert not stage.worker.submits
    response = client.responses.create(model=MODEL, instructions="Be brief.", input=given)
    assert response.usage is not None
    assert response.usage.input_tokens == count.input_tokens
    assert client.responses.input_tokens.count(input="Hi").input_tokens > 0


def test_truncation(stage: Stage, client: OpenAI) -> None:
    """With truncation auto the oldest items are left out until the prompt fits; disabled, it is a 400."""
    given: Any = [{"role": "user", "content": f"{number} " + "word " * 400} for number in range(40)]
    response = client.responses.create(model=MODEL, input=given, truncation="auto", instructions="Be brief.")
    assert response.truncation == "auto"
    with pytest.raises(BadRequestError, match="maximum context length") as caught:
        client.responses.create(model=MODEL, input=given)
    assert (caught.value.param, caught.value.code) == ("input", "context_length_exceeded")
    room = 8192 - len(stage.worker.submits[0].prompt.token_ids)
    assert 0 < room < 500


def test_raw_responses_validate_in_the_client(stage: Stage) -> None:
    """The SDK's own strict validation takes what it is sent."""
    with stage.client(_strict_response_validation=True) as client:
        whole = client.responses.with_raw_response.create(model=MODEL, input="Hi")
        assert isinstance(whole.parse(), Response)
        assert len(list(client.responses.create(model=MODEL, input="Hi", stream=True))) > 5
