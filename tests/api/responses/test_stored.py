"""Responses that are stored: gone on with, had again, listed, deleted, cancelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI, RateLimitError
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from gemmad.config.keyring import parse_keyring
from tests.api.responses.strict import checked_events, checked_response, kinds, stream
from tests.api.stage import MODEL, Script, Stage


def test_a_chain(stage: Stage, client: OpenAI) -> None:
    """A response goes on with the one before it: with its input and output, but not with its instructions."""
    stage.say("Red.")
    first = client.responses.create(model=MODEL, input="Which colour?", instructions="Be brief.")
    second = client.responses.create(model=MODEL, input="Sure?", previous_response_id=first.id)
    client.responses.delete(first.id)
    third = client.responses.create(model=MODEL, previous_response_id=second.id, input="Really?")
    assert (second.previous_response_id, third.previous_response_id) == (first.id, second.id)
    client.responses.create(
        model=MODEL,
        input=[
            {"role": "user", "content": "Which colour?"},
            {"role": "assistant", "content": "Red."},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Red."},
            {"role": "user", "content": "Really?"},
        ],
    )
    assert stage.worker.submits[2].prompt == stage.worker.submits[3].prompt


def test_two_branches(client: OpenAI) -> None:
    """One response can be gone on with twice."""
    first = client.responses.create(model=MODEL, input="A")
    branches = [client.responses.create(model=MODEL, input=text, previous_response_id=first.id) for text in "BC"]
    assert branches[0].id != branches[1].id


def test_streams_are_stored_too(http: httpx.Client) -> None:
    """A streamed response can be had again as its last event told it."""
    final = stream(http, {"model": MODEL, "input": "Hi"})[-1]["response"]
    assert http.get(f"/v1/responses/{final['id']}").json() == final


def test_had_again_and_deleted(client: OpenAI, http: httpx.Client) -> None:
    """A stored response is told as it was; deleted, nobody knows it any more."""
    response = client.responses.create(model=MODEL, input="Hi")
    assert client.responses.retrieve(response.id) == response
    checked_response(http.get(f"/v1/responses/{response.id}").content)
    client.responses.delete(response.id)
    for again in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(NotFoundError, match=f"Response with id '{response.id}' not found"):
            again(response.id)
    with pytest.raises(BadRequestError, match="Previous response") as caught:
        client.responses.create(model=MODEL, input="Hi", previous_response_id=response.id)
    assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")


def test_not_stored(client: OpenAI) -> None:
    """With store false nothing is kept, and the response says so."""
    response = client.responses.create(model=MODEL, input="Hi", store=False)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(response.id)
    assert response.model_extra == {"store": False}


def test_another_key(stage: Stage, client: OpenAI) -> None:
    """A response belongs to its key: for another it does not exist, whatever it tries."""
    response = client.responses.create(model=MODEL, input="Hi")
    with stage.client() as other:
        other.api_key = "another"
        for attempt in (
            other.responses.retrieve,
            other.responses.delete,
            other.responses.cancel,
            other.responses.input_items.list,
        ):
            with pytest.raises(NotFoundError):
                attempt(response.id)
        with pytest.raises(BadRequestError):
            other.responses.create(model=MODEL, input="Hi", previous_response_id=response.id)
        reference: Any = {"type": "item_reference", "id": response.output[0].id}
        with pytest.raises(BadRequestError, match="Item with id"):
            other.responses.create(model=MODEL, input=[reference])
    assert client.responses.retrieve(response.id).id == response.id


def test_input_items(client: OpenAI, http: httpx.Client, red_circle: str) -> None:
    """All that a response was made from is listed, the latest first, page by page, as the SDK's types have it."""
    given: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_image", "image_url": red_circle, "detail": "low"}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "a circle"},
    ]
    first = client.responses.create(model=MODEL, input=given)
    second = client.responses.create(model=MODEL, input="Sure?", previous_response_id=first.id)
    body = http.get(f"/v1/responses/{second.id}/input_items").json()
    for item in body["data"]:
        TypeAdapter[Any](ResponseItem).validate_python(item)
    assert (body["object"], body["has_more"], len(body["data"])) == ("list", False, 6)
    assert (body["first_id"], body["last_id"]) == (body["data"][0]["id"], body["data"][-1]["id"])
    listed = list(client.responses.input_items.list(second.id, order="asc", limit=2))
    assert [item.id for item in reversed(listed)] == [item["id"] for item in body["data"]]
    assert [item.type for item in listed] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
        "message",
        "message",
    ]
    for query in ("limit=0", "limit=x", "order=up", "after=nothing"):
        answer = http.get(f"/v1/responses/{second.id}/input_items?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == query.partition("=")[0]


def test_item_references(stage: Stage, client: OpenAI) -> None:
    """An item of a stored response can be sent by its id alone."""
    first = client.responses.create(model=MODEL, input="Hi")
    reference: Any = {"type": "item_reference", "id": first.output[0].id}
    said: Any = {"role": "assistant", "content": "Hello there."}
    for item in (reference, said):
        client.responses.create(model=MODEL, input=[{"role": "user", "content": "Hi"}, item])
    assert stage.worker.submits[1].prompt == stage.worker.submits[2].prompt


def test_in_the_background(stage: Stage, client: OpenAI) -> None:
    """A response in the background is answered at once, and is had when it is done."""
    begun = client.responses.create(model=MODEL, input="Hi", background=True)
    assert (begun.status, begun.background, begun.output) == ("queued", True, [])
    stage.wait_until(stage.is_idle)
    done = client.responses.retrieve(begun.id)
    assert (done.status, done.output_text, done.created_at) == ("completed", "Hello there.", begun.created_at)
    assert client.responses.cancel(begun.id) == done


def test_in_progress(stage: Stage, client: OpenAI) -> None:
    """One in the background is in progress until it is done: it can be had, but not gone on with."""
    stage.play(Script(token_ids=stage.tokens("Hi"), then="silence"))
    begun = client.responses.create(model=MODEL, input="Hi", background=True)
    stage.wait_until(lambda: bool(stage.worker.submits))
    assert client.responses.retrieve(begun.id).status == "in_progress"
    assert [item.type for item in client.responses.input_items.list(begun.id)] == ["message"]
    with pytest.raises(BadRequestError, match="still in progress"):
        client.responses.create(model=MODEL, input="Hi", previous_response_id=begun.id)
    client.responses.cancel(begun.id)


@pytest.mark.parametrize("ending", ["cancel", "delete"])
def test_cancelled(stage: Stage, client: OpenAI, ending: str) -> None:
    """One in the background that is cancelled or deleted is aborted, and the one that is cancelled can be had."""
    stage.play(Script(token_ids=stage.tokens("Hi"), then="silence"))
    begun = client.responses.create(model=MODEL, input="Hi", background=True)
    stage.wait_until(lambda: bool(stage.worker.submits))
    getattr(client.responses, ending)(begun.id)
    stage.wait_until(lambda: len(stage.worker.aborted) == 1)
    if ending == "cancel":
        assert client.responses.retrieve(begun.id).status == "cancelled"
        assert client.responses.cancel(begun.id).status == "cancelled"
        return
    with pytest.raises(NotFoundError):
        client.responses.retrieve(begun.id)


def test_a_key_has_its_share_of_the_background(stage: Stage, client: OpenAI) -> None:
    """What a key may have under way bounds what it has in the background too; one that ends makes room."""
    stage.keyring = parse_keyring(b"alice:a-key-for-alice", path=Path("keys"), admin=False)
    stage.play(Script(token_ids=stage.tokens("Hi"), then="silence"))
    client.api_key = "a-key-for-alice"
    with stage.settings(auth={"max_concurrent": 1}):
        begun = client.responses.create(model=MODEL, input="Hi", background=True)
        with pytest.raises(RateLimitError) as caught:
            client.responses.create(model=MODEL, input="Hi", background=True)
        assert caught.value.code == "too_many_concurrent"
        client.responses.cancel(begun.id)
        stage.say("Hello there.")
        assert client.responses.create(model=MODEL, input="Hi", background=True).status == "queued"
        stage.wait_until(stage.is_idle)


def test_only_background_ones_can_be_cancelled(client: OpenAI) -> None:
    """A response that was waited for cannot be cancelled, and one that is not stored cannot be in the background."""
    response = client.responses.create(model=MODEL, input="Hi")
    with pytest.raises(BadRequestError, match="background"):
        client.responses.cancel(response.id)
    with pytest.raises(BadRequestError, match="'background' needs 'store'"):
        client.responses.create(model=MODEL, input="Hi", background=True, store=False)


def test_a_stream_taken_up_again(stage: Stage, http: httpx.Client) -> None:
    """A stream in the background goes on when its client leaves, and can be read from any event on."""
    stage.say("one two three four five six", pause_seconds=0.01)
    body = {"model": MODEL, "input": "Hi", "stream": True, "background": True}
    with http.stream("POST", "/v1/responses", json=body) as answer:
        first = next(line for line in answer.iter_lines() if line.startswith("data: "))
    response_id = first.partition('"id":"')[2].partition('"')[0]
    followed = checked_events(http.get(f"/v1/responses/{response_id}?stream=true").text)
    assert kinds(followed)[:3] == ["created", "queued", "in_progress"]
    assert kinds(followed)[-1] == "completed"
    stage.wait_until(stage.is_idle)
    assert not stage.worker.aborted
    again = http.get(f"/v1/responses/{response_id}?stream=true&starting_after=3").text
    assert checked_events(again, first=4) == followed[4:]
    assert http.get(f"/v1/responses/{response_id}").json() == followed[-1]["response"]


def test_no_stream_of_what_was_not_streamed(http: httpx.Client) -> None:
    """Events are kept of streams in the background only."""
    response = http.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).json()
    answer = http.get(f"/v1/responses/{response['id']}?stream=true")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "stream"


def test_a_failure_in_the_background(stage: Stage, client: OpenAI) -> None:
    """What could not be finished is stored as failed, with the reason."""
    stage.play(Script(then="reject"))
    begun = client.responses.create(model=MODEL, input="Hi", background=True)
    stage.wait_until(stage.is_idle)
    failed = client.responses.retrieve(begun.id)
    assert failed.status == "failed"
    assert failed.error is not None
