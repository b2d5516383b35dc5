"""Streams byte by byte, as hand-made clients read them."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from openai import APIError, OpenAI

from tests.api.stage import MODEL, Script, Stage

BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
URL = "/v1/chat/completions"


def events(text: str) -> list[str]:
    """The data of each event; every line must be one of data, or a comment."""
    assert "\r" not in text
    assert text.endswith("\n\n")
    found = []
    for block in text.split("\n\n")[:-1]:
        lines = block.split("\n")
        assert all(line.startswith(("data: ", ":")) for line in lines)
        found += [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return found


def test_the_events_of_a_stream(stage: Stage, http: httpx.Client) -> None:
    """Role first, text without a role, an empty delta with the reason, the usage without a choice, and DONE."""
    stage.say("Hello there.", pause_seconds=0.001)
    answer = http.post(URL, json=BODY | {"stream_options": {"include_usage": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    *chunks, done = events(answer.text)
    assert done == "[DONE]"
    first, *middle, last, usage = [json.loads(chunk) for chunk in chunks]
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert middle
    for chunk in middle:
        assert chunk["choices"][0]["delta"].keys() == {"content"}
        assert chunk["choices"][0]["finish_reason"] is None
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert all("usage" not in chunk for chunk in [first, *middle, last])
    assert usage["choices"] == []
    details = {"prompt_tokens_details", "completion_tokens_details"}
    assert usage["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens", *details}
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}
    assert usage["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}
    heads = {
        (chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in [first, *middle, last, usage]
    }
    assert len(heads) == 1
    assert first["object"] == "chat.completion.chunk"


def test_a_reply_without_text(stage: Stage, http: httpx.Client) -> None:
    """A model that ends its turn at once still gives a role, a reason and DONE."""
    stage.say("")
    first, last, done = events(http.post(URL, json=BODY).text)
    assert json.loads(first)["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert json.loads(last)["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


def test_tokens_that_come_together_are_one_chunk(stage: Stage, http: httpx.Client) -> None:
    """What was said meanwhile is told in one chunk, not in one for each token."""
    stage.say("one two three four five six", at_once=100)
    chunks = [json.loads(chunk) for chunk in events(http.post(URL, json=BODY).text)[:-1]]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == [
        "",
        "one two three four five six",
        None,
    ]


def test_characters_are_never_broken(stage: Stage, http: httpx.Client) -> None:
    """A character that takes several tokens comes whole."""
    text = "Größe 🎈 naïve 漢字"
    stage.say(text, pause_seconds=0.001)
    pieces = [
        json.loads(chunk)["choices"][0]["delta"].get("content", "")
        for chunk in events(http.post(URL, json=BODY).text)[:-1]
    ]
    assert "".join(pieces) == text
    assert "�" not in "".join(pieces)


def test_silence_is_filled_with_comments(stage: Stage, http: httpx.Client) -> None:
    """While nothing is said, before the first token too, a comment comes every `ping_every`."""
    stage.say("ab", pause_seconds=0.35)
    with stage.settings(server={"ping_every": 0.1}):
        text = http.post(URL, json=BODY).text
    before, _, after = text.partition("data: ")
    assert before.startswith(": ")
    assert "\n\n: " in after
    assert events(text)[-1] == "[DONE]"


def test_a_failure_after_the_headers(stage: Stage, client: OpenAI) -> None:
    """An error inside a stream is an error event that the SDK raises; the stream does not look finished."""
    stage.play(Script(token_ids=stage.tokens("one two three"), then="reject", pause_seconds=0.001))
    said: list[str] = []
    stream = client.chat.completions.create(**BODY)
    with pytest.raises(APIError) as caught:
        said.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(said) == "one two three"
    assert caught.value.code == "rejected"


def test_the_bytes_of_a_failure(stage: Stage, http: httpx.Client) -> None:
    """The error event has OpenAI's body, and neither a reason nor DONE follows."""
    stage.play(Script(token_ids=stage.tokens("one"), then="reject"))
    *others, last = events(http.post(URL, json=BODY).text)
    assert json.loads(last)["error"].keys() == {"message", "type", "param", "code"}
    assert all(json.loads(chunk)["choices"][0]["finish_reason"] is None for chunk in others)


def test_a_failure_without_a_stream(stage: Stage, http: httpx.Client) -> None:
    """The same failure is a plain 500 to who waits for the whole, and says whether to try again."""
    stage.play(Script(token_ids=stage.tokens("one"), then="reject"))
    answer = http.post(URL, json=BODY | {"stream": False})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "rejected"
    assert answer.headers["x-should-retry"] == "false"


def test_the_first_token_is_sent_at_once(stage: Stage, http: httpx.Client) -> None:
    """What is said is sent when it is said, not when the reply is complete."""
    stage.say("one two three four", pause_seconds=0.15)
    began = time.monotonic()
    with http.stream("POST", URL, json=BODY) as answer:
        arrived = [time.monotonic() - began for line in answer.iter_lines() if line.startswith("data: {")]
    assert arrived[-1] - arrived[0] > 0.3
