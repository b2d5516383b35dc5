"""`/api/chat` and `/api/generate` through Ollama's own package, and byte by byte."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from ollama import AsyncClient, Client, Message, ResponseError

from gemmad.supervisor.listener import Outlook
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_bad_input import PNG

HI = [{"role": "user", "content": "Hi"}]
BODY: dict[str, Any] = {"model": MODEL, "messages": HI}


def test_a_chat(stage: Stage, ollama: Client) -> None:
    """A whole reply has its words, how it ended, counts and durations in nanoseconds."""
    reply = ollama.chat(MODEL, messages=HI)
    assert reply.message.role == "assistant"
    assert reply.message.content == "Hello there."
    assert (reply.model, reply.done, reply.done_reason) == (MODEL, True, "stop")
    assert reply.prompt_eval_count == len(stage.worker.submits[0].prompt.token_ids)
    assert reply.eval_count == len(stage.tokens("Hello there.")) + 1
    assert reply.total_duration
    assert reply.total_duration >= (reply.prompt_eval_duration or 0) > 0


def test_a_stream(ollama: Client) -> None:
    """Words come as they are said, the counts at the end."""
    *parts, last = ollama.chat(MODEL, messages=HI, stream=True)
    assert "".join(part.message.content or "" for part in parts) == "Hello there."
    assert not any(part.done for part in parts)
    assert (last.done, last.done_reason, last.message.content) == (True, "stop", "")


def test_a_stream_byte_by_byte(http: httpx.Client) -> None:
    """Without a word on it a request streams lines of JSON, also in a silence: there are no comments."""
    answer = http.post("/api/chat", json=BODY)
    assert answer.headers["content-type"] == "application/x-ndjson"
    for line in answer.text.split("\n")[:-1]:
        assert json.loads(line).keys() >= {"model", "created_at", "message", "done"}


def test_silence(stage: Stage, ollama: Client) -> None:
    """What is sent while nothing is said are lines without words, which the package takes."""
    stage.say("Hello there.", pause_seconds=0.25)
    parts = list(ollama.chat(MODEL, messages=HI, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "Hello there."
    assert len(parts) > len(stage.tokens("Hello there.")) + 2


def test_asynchronously(stage: Stage) -> None:
    """The package for asyncio works as well."""

    async def ask() -> str:
        client = AsyncClient(host=stage.url)
        try:
            return "".join([part.message.content or "" async for part in await client.chat(MODEL, HI, stream=True)])
        finally:
            await client._client.aclose()

    assert asyncio.run(ask()) == "Hello there."


def test_names(stage: Stage, ollama: Client) -> None:
    """A name with the tag that Ollama adds is the name without, and told as it was asked for."""
    assert ollama.chat(f"{MODEL}:latest", messages=HI).model == f"{MODEL}:latest"
    with pytest.raises(ResponseError, match="does not exist") as caught:
        ollama.chat("llama3:latest", messages=HI)
    assert caught.value.status_code == 404


def test_generate(stage: Stage, ollama: Client) -> None:
    """A prompt is answered, and a raw one gone on with as it stands."""
    assert ollama.generate(MODEL, "Hi", system="Be brief.").response == "Hello there."
    parts = list(ollama.generate(MODEL, "Once", raw=True, stream=True))
    assert "".join(part.response or "" for part in parts) == "Hello there."
    assert parts[-1].done_reason == "stop"
    assert stage.worker.submits[-1].prompt.token_ids[1:] == stage.tokens("Once")


def test_nothing_to_say(stage: Stage, ollama: Client) -> None:
    """A request without words asks whether the model is there, and no worker hears of it."""
    assert ollama.chat(MODEL).done_reason == "load"
    assert ollama.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert stage.worker.submits == []


def test_options(stage: Stage, ollama: Client) -> None:
    """Options reach the worker; a limit above what the context leaves is what it leaves."""
    ollama.chat(MODEL, messages=HI, options={"temperature": 0.5, "num_predict": 5, "repeat_penalty": 1.25, "seed": 3})
    ollama.chat(MODEL, messages=HI, options={"num_predict": 100_000})
    first, second = (submit.sampling for submit in stage.worker.submits)
    assert (first.temperature, first.max_tokens, first.repetition_penalty, first.seed) == (0.5, 5, 1.25, 3)
    assert second.max_tokens == 8192 - len(stage.worker.submits[1].prompt.token_ids)


def test_the_limit(stage: Stage, ollama: Client) -> None:
    """A reply that was cut off says so."""
    assert ollama.chat(MODEL, messages=HI, options={"num_predict": 2}).done_reason == "length"


def test_images(stage: Stage, ollama: Client) -> None:
    """The package's pictures are shown to the model; one that is none is refused."""
    ollama.chat(MODEL, messages=[{"role": "user", "content": "What is it?", "images": [PNG]}])
    ollama.generate(MODEL, "What is it?", images=[PNG])
    assert [len(submit.prompt.images) for submit in stage.worker.submits] == [1, 1]
    with pytest.raises(ResponseError) as caught:
        ollama.chat(MODEL, messages=[{"role": "user", "images": ["AAAA"]}])
    assert caught.value.status_code == 400


def test_tools(stage: Stage, ollama: Client) -> None:
    """Functions are called, and what they give is told to the model, over two rounds."""

    def weather(place: str) -> str:
        """The weather.

        Args:
          place: Where.
        """
        return f"rain in {place}"

    for stream in (False, True):
        stage.say(json.dumps({"name": "weather", "parameters": {"place": "Kiel"}}))
        history: list[Any] = [*HI]
        if stream:
            parts = list(ollama.chat(MODEL, messages=history, tools=[weather], stream=True))
        else:
            parts = [ollama.chat(MODEL, messages=history, tools=[weather])]
        [call] = [call for part in parts for call in part.message.tool_calls or ()]
        assert (call.function.name, call.function.arguments) == ("weather", {"place": "Kiel"})
        history += [Message(role="assistant", tool_calls=[call])]
        history += [{"role": "tool", "tool_name": "weather", "content": weather(**call.function.arguments)}]
        stage.say("It rains.")
        assert ollama.chat(MODEL, messages=history, tools=[weather]).message.content == "It rains."
        ids = list(stage.worker.submits[-1].prompt.token_ids)
        assert "rain in Kiel" in stage.text.tokenizer.decode(ids)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/show"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"model": 5}', b'{"model": "nobody"}'])
def test_errors(http: httpx.Client, path: str, body: bytes) -> None:
    """Every error is Ollama's: one key, with words in it."""
    answer = http.post(path, content=body)
    assert answer.status_code in (400, 404)
    assert answer.json().keys() == {"error"}
    assert isinstance(answer.json()["error"], str)


def test_routes_that_are_not_there(http: httpx.Client) -> None:
    """What Ollama has and is not served here is told in its shape."""
    for method, path, status in (("POST", "/api/pull", 404), ("POST", "/api/embed", 404), ("GET", "/api/chat", 405)):
        answer = http.request(method, path)
        assert answer.status_code == status
        assert answer.json().keys() == {"error"}


def test_loading(stage: Stage, http: httpx.Client) -> None:
    """Before a worker is there clients are told when to come back."""
    stage.call(lambda: stage.worker.leave(Outlook.LOADING, wait_seconds=7.0))
    answer = http.post("/api/chat", json=BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.json().keys() == {"error"}


def test_a_stream_that_fails(stage: Stage, ollama: Client) -> None:
    """What fails in the middle is an exception in the package."""
    stage.play(Script(token_ids=stage.tokens("Hello"), then="reject"))
    with pytest.raises(ResponseError):
        list(ollama.chat(MODEL, messages=HI, stream=True))
