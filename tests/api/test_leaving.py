"""Clients that leave: the worker forgets their requests at once, and nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any

import pytest
from openai import OpenAI

from gemmad.supervisor.listener import Outlook
from tests.api.stage import MODEL, Script, Stage
from tests.clients import run_async
from tests.fakes.media_pictures import data_url, noise, saved

HI: Any = [{"role": "user", "content": "Hi"}]


def post(stage: Stage, body: dict[str, Any]) -> socket.socket:
    """A request whose answer nobody has read yet."""
    data = json.dumps({"model": MODEL, "messages": HI} | body).encode()
    sock = socket.create_connection(("127.0.0.1", stage.port), timeout=10)
    sock.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    )
    return sock


def test_leaving_a_stream(stage: Stage, client: OpenAI) -> None:
    """Closing a stream in its middle aborts the request in the worker."""
    stage.play(Script(token_ids=stage.tokens("word " * 500), pause_seconds=0.01))
    stream = client.chat.completions.create(model=MODEL, messages=HI, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()
    stage.wait_until(stage.is_idle)
    assert stage.worker.aborted == [stage.worker.submits[0].request_id]


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_before_the_first_token(stage: Stage, stream: bool) -> None:
    """A client that hangs up while nothing was said yet, streaming or not, aborts its request."""
    stage.play(Script(then="silence"))
    with post(stage, {"stream": stream}):
        stage.wait_until(lambda: bool(stage.worker.at_work))
    stage.wait_until(stage.is_idle)
    assert len(stage.worker.aborted) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_the_queue(stage: Stage, stream: bool) -> None:
    """A client that hangs up while it waits for a worker leaves the queue."""
    stage.call(lambda: stage.worker.leave(Outlook.RETURNING))
    with post(stage, {"stream": stream}):
        stage.wait_until(lambda: stage.dispatcher.status().waiting == 1)
    stage.wait_until(stage.is_idle)
    assert stage.worker.submits == []


def test_leaving_while_the_body_is_sent(stage: Stage) -> None:
    """Half a request is no request."""
    with socket.create_connection(("127.0.0.1", stage.port), timeout=10) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert stage.worker.submits == []


def test_leaving_with_an_image(stage: Stage) -> None:
    """The pixels of a request whose client left are given back."""
    stage.play(Script(then="silence"))
    before = stage.call(memfds)
    content = [{"type": "image_url", "image_url": {"url": data_url(saved(noise(), "PNG"))}}]
    with post(stage, {"stream": True, "messages": [{"role": "user", "content": content}]}):
        stage.wait_until(lambda: bool(stage.worker.at_work))
        assert stage.call(memfds) == before + 1
    stage.wait_until(stage.is_idle)
    stage.wait_until(lambda: memfds() == before)


def test_a_client_that_reads_nothing(stage: Stage) -> None:
    """A stream that nobody reads holds no worker: the reply is said to its end, and waits."""
    stage.play(Script(token_ids=stage.tokens("word " * 2000), at_once=50))
    with post(stage, {"stream": True, "max_tokens": 2000}):
        stage.wait_until(stage.is_idle)
    assert stage.worker.aborted == []


def test_many_streams_at_once(stage: Stage) -> None:
    """64 concurrent streams each say their own text, while as many others come and go."""
    texts = {f"question {number}": f"The answer is {number * 37}." for number in range(64)}
    stage.play(
        lambda submit: Script(
            token_ids=(*answer_to(stage, texts, submit.prompt.token_ids), stage.text.stop_token_ids[-1]),
            pause_seconds=0.002,
        )
    )

    async def talk() -> dict[str, str]:
        async with stage.async_client(timeout=60) as client:

            async def ask(question: str) -> tuple[str, str]:
                stream = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": question}], stream=True
                )
                said = [chunk.choices[0].delta.content or "" async for chunk in stream]
                assert said
                return question, "".join(said)

            async def leave_early() -> None:
                stream = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "question 1"}], stream=True
                )
                async for _chunk in stream:
                    break
                await stream.close()

            answers, _ = await asyncio.gather(
                asyncio.gather(*(ask(question) for question in texts)),
                asyncio.gather(*(leave_early() for _ in range(32))),
            )
            return dict(answers)

    assert run_async(talk()) == texts
    stage.wait_until(stage.is_idle)


def answer_to(stage: Stage, texts: dict[str, str], token_ids: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens of the answer to the question in a prompt."""
    prompt = stage.text.tokenizer.decode(token_ids, skip_special_tokens=False)
    question = max((question for question in texts if question in prompt), key=len)
    return stage.tokens(texts[question])


def memfds() -> int:
    """Pictures that this process holds."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += "gemmad-pixels" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found
