"""`n` choices of one request, judged by the official SDK."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openai import APIError, InternalServerError, OpenAI, RateLimitError
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gemmad.protocol.messages import Submit
from gemmad.supervisor.listener import Outlook
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_bad_input import HI, URL, refused
from tests.api.test_leaving import memfds, post
from tests.api.test_wire import events
from tests.clients import run_async
from tests.fakes.media_pictures import data_url, noise, saved

ASK: Any = {"model": MODEL, "messages": HI, "seed": 40}
WORDS = ("one", "two words", "three long words", "and four words more")


def say_each(stage: Stage, **how: Any) -> None:
    """Choice i says the i-th of WORDS."""

    def script(submit: Submit) -> Script:
        token_ids = (*stage.tokens(WORDS[submit.sampling.seed - 40]), stage.text.stop_token_ids[-1])
        return Script(token_ids=token_ids, **how)

    stage.play(script)


def test_whole_choices(stage: Stage, client: OpenAI) -> None:
    """Without a stream every choice is there, in order, and the usage counts the prompt once and all their tokens."""
    say_each(stage)
    reply = client.chat.completions.create(n=4, **ASK)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert tuple(choice.message.content for choice in reply.choices) == WORDS
    assert {choice.finish_reason for choice in reply.choices} == {"stop"}
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(stage.worker.submits[0].prompt.token_ids)
    assert reply.usage.completion_tokens == sum(len(stage.tokens(words)) + 1 for words in WORDS)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 3


def test_streamed_choices(stage: Stage, client: OpenAI) -> None:
    """In a stream the choices come mixed, told apart by their index, each with a role, its text and its end."""
    say_each(stage, pause_seconds=0.002)
    stream = client.chat.completions.create(n=4, stream=True, stream_options={"include_usage": True}, **ASK)
    *chunks, last = list(stream)
    texts, roles, ends, order = [""] * 4, [0] * 4, [0] * 4, []
    for chunk in chunks:
        (choice,) = chunk.choices
        assert not ends[choice.index]
        texts[choice.index] += choice.delta.content or ""
        roles[choice.index] += choice.delta.role == "assistant"
        ends[choice.index] += choice.finish_reason == "stop"
        order.append(choice.index)
    assert tuple(texts) == WORDS
    assert roles == ends == [1] * 4
    assert order != sorted(order)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == sum(len(stage.tokens(words)) + 1 for words in WORDS)


def test_the_stream_helper(stage: Stage, client: OpenAI) -> None:
    """The SDK's accumulating `.stream()` puts the choices together."""
    say_each(stage, pause_seconds=0.001)
    with client.chat.completions.stream(n=3, **ASK) as stream:
        final = stream.get_final_completion()
    assert tuple(choice.message.content for choice in final.choices) == WORDS[:3]


def test_strict_types(stage: Stage) -> None:
    """Completions and chunks of several choices pass the SDK's own types when it validates strictly."""
    say_each(stage)
    with stage.client(_strict_response_validation=True) as client:
        assert isinstance(client.chat.completions.create(n=2, **ASK), ChatCompletion)
        stream = client.chat.completions.create(n=2, stream=True, stream_options={"include_usage": True}, **ASK)
        assert all(isinstance(chunk, ChatCompletionChunk) for chunk in stream)


def test_the_events_of_a_stream(stage: Stage, http: httpx.Client) -> None:
    """The roles of all choices come first, DONE comes once and last."""
    say_each(stage)
    *chunks, done = events(http.post(URL, json={**ASK, "n": 3, "stream": True}).text)
    assert done == "[DONE]"
    assert "[DONE]" not in chunks
    assert ['"role":"assistant"' in chunk for chunk in chunks] == [True] * 3 + [False] * (len(chunks) - 3)


def test_seeds_are_counted_up(stage: Stage, client: OpenAI) -> None:
    """Choice i has the seed + i, in 64 bits, so that each can be had again alone; without a seed they differ too."""

    def seeds() -> list[int]:
        return [submit.sampling.seed for submit in stage.worker.submits]

    client.chat.completions.create(**{**ASK, "n": 3, "seed": (1 << 63) - 2})
    assert seeds() == [(1 << 63) - 2, (1 << 63) - 1, -(1 << 63)]
    stage.worker.submits.clear()
    client.chat.completions.create(model=MODEL, messages=HI, n=16)  # type: ignore[arg-type]
    assert len(set(seeds())) == 16
    stage.worker.submits.clear()
    client.chat.completions.create(**{**ASK, "n": 1})
    client.chat.completions.create(**ASK)
    assert seeds() == [40, 40]


@pytest.mark.parametrize("n", [0, -1, 17, 1.5, "2", True])
def test_bad_numbers(http: httpx.Client, n: object) -> None:
    """Anything but 1 to 16 is a 400 that names the field."""
    assert refused(http.post(URL, json={**ASK, "n": n}))["param"] == "n"


def test_one_choice_ends_early(stage: Stage, client: OpenAI) -> None:
    """A stop string, or the length limit, ends the choice that meets it and no other."""
    say_each(stage)
    reply = client.chat.completions.create(n=4, stop=["long"], max_tokens=len(stage.tokens(WORDS[2])) + 1, **ASK)
    texts = [choice.message.content for choice in reply.choices]
    assert texts[:3] == ["one", "two words", "three "]
    assert WORDS[3].startswith(texts[3] or "")
    finishes = [choice.finish_reason for choice in reply.choices]
    assert finishes[:3] == ["stop"] * 3


def test_one_choice_fails(stage: Stage, client: OpenAI) -> None:
    """A choice that fails fails the request: an error for who waits for the whole, an error event in a stream; what the
    others still had to say is aborted."""

    def script(submit: Submit) -> Script:
        if submit.sampling.seed == 41:
            return Script(token_ids=stage.tokens("one"), then="reject")
        return Script(token_ids=stage.tokens("word " * 100), pause_seconds=0.005)

    stage.play(script)
    with pytest.raises(InternalServerError) as caught:
        client.chat.completions.create(n=3, **ASK)
    assert caught.value.code == "rejected"
    stage.wait_until(stage.is_idle)
    assert len(stage.worker.aborted) == 2
    with pytest.raises(APIError) as event:
        list(client.chat.completions.create(n=3, stream=True, **ASK))
    assert event.value.code == "rejected"
    stage.wait_until(stage.is_idle)
    assert len(stage.worker.aborted) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_leaving(stage: Stage, stream: bool) -> None:
    """A client that hangs up ends all its choices."""
    stage.play(Script(then="silence"))
    with post(stage, {"stream": stream, "n": 5}):
        stage.wait_until(lambda: len(stage.worker.at_work) == 5)
    stage.wait_until(stage.is_idle)
    assert len(stage.worker.aborted) == 5


def test_pictures_of_choices(stage: Stage, client: OpenAI) -> None:
    """An image goes to the worker with each choice; here it is held once, and given back after the last."""
    say_each(stage, pause_seconds=0.02)
    before = stage.call(memfds)
    content = [{"type": "image_url", "image_url": {"url": data_url(saved(noise(), "PNG"))}}]
    ask = {**ASK, "messages": [{"role": "user", "content": content}], "stream": True}
    stream = client.chat.completions.create(n=4, **ask)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    assert stage.call(memfds) == before + 1
    stream.close()
    stage.wait_until(lambda: memfds() == before)
    assert [len(submit.prompt.images) for submit in stage.worker.submits] == [1] * 4


def test_all_or_none(stage: Stage, client: OpenAI) -> None:
    """Choices are admitted together: where the queue has room for fewer, the request is a 429 and none waits."""
    stage.call(lambda: stage.worker.leave(Outlook.RETURNING))
    with stage.settings(dispatch={"max_waiting": 3}), pytest.raises(RateLimitError):
        client.chat.completions.create(n=4, **ASK)
    assert stage.call(lambda: stage.dispatcher.status().waiting) == 0


def test_the_asynchronous_client(stage: Stage) -> None:
    """The asyncio SDK reads several choices as well."""
    say_each(stage)

    async def talk() -> list[str | None]:
        async with stage.async_client() as client:
            whole = await client.chat.completions.create(n=2, **ASK)
            return [choice.message.content for choice in whole.choices]

    assert run_async(talk()) == list(WORDS[:2])
