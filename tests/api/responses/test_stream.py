"""Streams: every event as the SDK's types have it, in OpenAI's order, numbered without a gap."""

from __future__ import annotations

import httpx
import pytest
from openai import OpenAI

from gemmad.generation import TokenLogprobs
from tests.api.responses.strict import checked_events, kinds, stream
from tests.api.stage import MODEL, Script, Stage

TEXT_EVENTS = ["output_item.added", "content_part.added", "output_text.delta"]
ENDS = ["output_text.done", "content_part.done", "output_item.done"]


def test_the_order_of_events(stage: Stage, http: httpx.Client) -> None:
    """A text comes between its item and its part, and the whole response comes first and last; there is no [DONE]."""
    stage.say("The circle is red.", pause_seconds=0.001)
    events = stream(http, {"model": MODEL, "input": "Hi"})
    told = kinds(events)
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert len(deltas) > 3
    assert told == [
        "created",
        "in_progress",
        *TEXT_EVENTS[:2],
        *["output_text.delta"] * len(deltas),
        *ENDS,
        "completed",
    ]
    assert "".join(deltas) == "The circle is red."
    done, final = events[-2]["item"], events[-1]["response"]
    assert final["output"] == [done]
    assert events[-4]["text"] == "The circle is red."
    assert final["usage"]["output_tokens"] == len(stage.tokens("The circle is red.")) + 1
    assert events[0]["response"]["output"] == []
    assert {event["response"]["id"] for event in events if "response" in event} == {final["id"]}


def test_a_stream_says_what_a_response_says(http: httpx.Client) -> None:
    """But for ids and times the last event has the response that is sent without a stream."""
    streamed = stream(http, {"model": MODEL, "input": "Hi"})[-1]["response"]
    whole = http.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).json()
    for response in (streamed, whole):
        for message in response["output"]:
            message["id"] = ""
        response |= {"id": "", "created_at": 0, "completed_at": 0}
    assert streamed == whole


def test_the_stream_helper(client: OpenAI) -> None:
    """The SDK's accumulating `.stream()` ends with the same response."""
    with client.responses.stream(model=MODEL, input="Hi") as opened:
        snapshots = [event.snapshot for event in opened if event.type == "response.output_text.delta"]
        final = opened.get_final_response()
    assert snapshots[-1] == final.output_text == "Hello there."


def test_an_incomplete_stream(http: httpx.Client) -> None:
    """A stream that is cut off says so in its last event and in its item."""
    events = stream(http, {"model": MODEL, "input": "Hi", "max_output_tokens": 2})
    assert kinds(events)[-4:] == [*ENDS, "incomplete"]
    final = events[-1]["response"]
    assert (final["status"], final["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert final["output"][0]["status"] == "incomplete"


def test_an_empty_reply(stage: Stage, http: httpx.Client) -> None:
    """A model that says nothing has still said a message."""
    stage.say("")
    events = stream(http, {"model": MODEL, "input": "Hi"})
    assert kinds(events) == ["created", "in_progress", *TEXT_EVENTS[:2], *ENDS, "completed"]
    whole = http.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).json()
    assert whole["output"][0]["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]


def test_silence(stage: Stage, http: httpx.Client) -> None:
    """Before the first token the response is told of, then comments come."""
    stage.play(Script(token_ids=stage.tokens("Hi"), pause_seconds=0.45))
    answer = http.post("/v1/responses", json={"model": MODEL, "input": "Hi", "stream": True})
    created, comment, text = (
        answer.text.index(words) for words in ("response.created", ": ping", "response.output_text.delta")
    )
    assert created < comment < text
    assert kinds(checked_events(answer.text))[-1] == "completed"


def test_a_failure(stage: Stage, http: httpx.Client) -> None:
    """A reply that cannot be finished ends with an error and the failed response, whatever had been said."""
    stage.play(Script(token_ids=stage.tokens("Hi there"), pause_seconds=0.001, then="reject"))
    events = stream(http, {"model": MODEL, "input": "Hi"})
    assert kinds(events)[-2:] == ["error", "failed"]
    assert events[-2]["message"]
    final = events[-1]["response"]
    assert final["status"] == "failed"
    assert final["error"]["message"] == events[-2]["message"]
    stage.play(Script(then="reject"))
    assert kinds(stream(http, {"model": MODEL, "input": "Hi"})) == ["created", "in_progress", "error", "failed"]


def test_leaving(stage: Stage, http: httpx.Client) -> None:
    """A client that leaves its stream takes its request with it, and nothing of it is stored."""
    stage.play(Script(token_ids=stage.tokens("Hi there"), pause_seconds=0.01, then="silence"))
    body = {"model": MODEL, "input": "Hi", "stream": True}
    with http.stream("POST", "/v1/responses", json=body) as answer:
        lines = answer.iter_lines()
        created = next(line for line in lines if line.startswith("data: "))
    stage.wait_until(lambda: len(stage.worker.aborted) == 1)
    response_id = created.partition('"id":"')[2].partition('"')[0]
    assert http.get(f"/v1/responses/{response_id}").status_code == 404


@pytest.mark.parametrize("streamed", [False, True])
def test_log_probabilities(stage: Stage, http: httpx.Client, streamed: bool) -> None:
    """Asked for in `include`, each token comes with its own and the likeliest; else there are none."""
    tokens = stage.tokens("Hi there")
    told = tuple(TokenLogprobs(-0.5, (token, tokens[0]), (-0.5, -1.5)) for token in tokens)
    stage.play(Script(token_ids=tokens, pause_seconds=0.001, logprobs=told))
    body = {"model": MODEL, "input": "Hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    if streamed:
        events = stream(http, body)
        response = events[-1]["response"]
        deltas = [one for event in events if "delta" in event for one in event["logprobs"]]
        assert deltas == response["output"][0]["content"][0]["logprobs"]
    else:
        response = http.post("/v1/responses", json=body).json()
    logprobs = response["output"][0]["content"][0]["logprobs"]
    assert "".join(one["token"] for one in logprobs).strip() == "Hi there"
    assert all(one["logprob"] == -0.5 and len(one["top_logprobs"]) == 2 for one in logprobs)
    assert stage.worker.submits[0].sampling.logprobs == 2
    plain = http.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).json()
    assert plain["output"][0]["content"][0]["logprobs"] == []
