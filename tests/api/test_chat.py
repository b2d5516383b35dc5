"""Chat completions through the official SDK."""

from __future__ import annotations

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam

from tests.api.stage import MODEL, Script, Stage
from tests.clients import run_async

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


def test_a_reply(stage: Stage, client: OpenAI) -> None:
    """A request without stream is answered with the whole text, why it ended and what it took."""
    stage.say("The circle is red.")
    reply = client.chat.completions.create(model=MODEL, messages=HI)
    assert reply.choices[0].message.content == "The circle is red."
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == MODEL
    assert reply.object == "chat.completion"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == len(stage.tokens("The circle is red.")) + 1
    assert reply.usage.prompt_tokens == len(stage.worker.submits[0].prompt.token_ids)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 3


def test_a_stream(stage: Stage, client: OpenAI) -> None:
    """A streamed reply says the same text, in chunks that share id, time and model."""
    stage.say("The circle is red.", pause_seconds=0.001)
    chunks = list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "The circle is red."
    assert len(chunks) > 3
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_with_usage(stage: Stage, client: OpenAI) -> None:
    """With include_usage one more chunk comes last, without a choice and with the counts."""
    stream = client.chat.completions.create(
        model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
    )
    *others, last = list(stream)
    assert all(chunk.usage is None and chunk.choices for chunk in others)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert last.usage.completion_tokens == len(stage.tokens("Hello there.")) + 1


def test_the_asynchronous_client(stage: Stage) -> None:
    """The asyncio SDK gets replies and streams as well."""

    async def talk() -> tuple[str | None, str]:
        async with stage.async_client() as client:
            whole = await client.chat.completions.create(model=MODEL, messages=HI)
            stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True)
            return whole.choices[0].message.content, "".join([c.choices[0].delta.content or "" async for c in stream])

    assert run_async(talk()) == ("Hello there.", "Hello there.")


def test_the_stream_helper(client: OpenAI) -> None:
    """The SDK's accumulating `.stream()` ends with the same completion."""
    with client.chat.completions.stream(model=MODEL, messages=HI) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hello there."
    assert final.choices[0].finish_reason == "stop"


def test_raw_responses_fit_the_types_strictly(stage: Stage) -> None:
    """Every chunk and completion passes the SDK's own types when it validates strictly."""
    with stage.client(_strict_response_validation=True) as client:
        whole = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
        assert isinstance(whole.parse(), ChatCompletion)
        stream = client.chat.completions.create(
            model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
        )
        assert all(isinstance(chunk, ChatCompletionChunk) for chunk in stream)


def test_the_length_limit(stage: Stage, client: OpenAI) -> None:
    """max_tokens ends a reply with finish_reason length; of both names the smaller number counts."""
    for limits in ({"max_tokens": 2}, {"max_completion_tokens": 2}, {"max_tokens": 9, "max_completion_tokens": 2}):
        reply = client.chat.completions.create(model=MODEL, messages=HI, **limits)  # type: ignore[call-overload]
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage.completion_tokens == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string(stage: Stage, client: OpenAI, stream: bool) -> None:
    """The text ends before a stop string, the reason is stop, and the worker is told to forget the rest."""
    tokens = stage.tokens("one two three four five six seven")
    stage.play(Script(token_ids=tokens, pause_seconds=0.001, then="silence"))
    reply = client.chat.completions.create(model=MODEL, messages=HI, stop=["three four", "zzz"], stream=stream)
    if isinstance(reply, ChatCompletion):
        ending = (reply.choices[0].message.content, str(reply.choices[0].finish_reason))
    else:
        chunks = list(reply)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        ending = (text, str(chunks[-1].choices[0].finish_reason))
    assert ending == ("one two ", "stop")
    stage.wait_until(lambda: len(stage.worker.aborted) == 1)


def test_defaults_and_asked_values(stage: Stage, client: OpenAI) -> None:
    """What a request leaves out comes from the config, else from the checkpoint; what it says counts."""
    client.chat.completions.create(model=MODEL, messages=HI)
    with stage.settings(sampling={"temperature": 0.5, "max_tokens": 7}):
        client.chat.completions.create(model=MODEL, messages=HI)
    client.chat.completions.create(
        model=MODEL,
        messages=HI,
        temperature=0,
        top_p=0.5,
        seed=-(2**63),
        extra_body={"top_k": -1, "min_p": 0.25, "ignore_eos": True, "min_tokens": 3},
    )
    silent, configured, asked = (submit.sampling for submit in stage.worker.submits)
    defaults = stage.text.defaults
    assert (silent.temperature, silent.top_k, silent.top_p) == (defaults.temperature, defaults.top_k, defaults.top_p)
    assert silent.stop_token_ids == stage.text.stop_token_ids
    assert silent.max_tokens == 8192 - len(stage.worker.submits[0].prompt.token_ids)
    assert silent.seed != configured.seed
    assert (configured.temperature, configured.max_tokens) == (0.5, 7)
    assert (asked.temperature, asked.top_k, asked.top_p, asked.min_p) == (0, 0, 0.5, 0.25)
    assert (asked.seed, asked.min_tokens, asked.stop_token_ids) == (-(2**63), 3, ())


def test_all_roles_and_shapes_of_content(stage: Stage, client: OpenAI) -> None:
    """System and developer mean the same, content may be parts, and turns that do not alternate are merged."""
    said: list[list[ChatCompletionMessageParam]] = [
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "A"},
            {"role": "user", "content": "B"},
        ],
        [
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": "A"},
            {"role": "user", "content": [{"type": "text", "text": "B"}]},
        ],
    ]
    for messages in said:
        assert client.chat.completions.create(model=MODEL, messages=messages).choices[0].finish_reason == "stop"
    first, second = (submit.prompt for submit in stage.worker.submits)
    assert first == second
    client.chat.completions.create(
        model=MODEL, messages=[*said[0], {"role": "assistant", "content": "C"}, {"role": "user", "content": "D"}]
    )


def test_what_is_ignored(client: OpenAI) -> None:
    """Fields without a meaning here, known or unknown, change nothing."""
    reply = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hi", "name": "Ada"}],
        user="u",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        prompt_cache_key="k",
        safety_identifier="s",
        verbosity="low",
        reasoning_effort="low",
        parallel_tool_calls=True,
        extra_body={"made_up_tomorrow": {"x": [1]}},
    )
    assert reply.choices[0].message.content == "Hello there."


def test_neutral_values_of_what_is_not_built(client: OpenAI) -> None:
    """A field that is not built yet may be sent with the value that asks for nothing."""
    reply = client.chat.completions.create(
        model=MODEL,
        messages=HI,
        n=1,
        frequency_penalty=0,
        presence_penalty=0.0,
        logit_bias={},
        logprobs=False,
        response_format={"type": "text"},
        tools=[],
        tool_choice="auto",
        modalities=["text"],
        audio=None,
    )
    assert reply.choices[0].message.content == "Hello there."
