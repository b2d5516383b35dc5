"""Every error on Anthropic's routes has Anthropic's shape, and the SDK makes the right exception of it."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import pytest
from anthropic import Anthropic

from gemmad.supervisor.listener import Outlook
from tests.api.anthropic.events import events
from tests.api.anthropic.test_messages import BODY, HI, URL
from tests.api.stage import MODEL, Script, Stage


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """What is inside, of the shape that every answer has."""
    assert answer.status_code == status
    body = answer.json()
    assert body.keys() == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert body["error"].keys() in ({"type", "message"}, {"type", "message", "details"})
    inside: dict[str, Any] = body["error"]
    return inside


def test_an_unknown_model(claude: Anthropic) -> None:
    """Names of other models are not found, in words and codes that the SDK shows."""
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="claude-opus-4-5", max_tokens=9, messages=HI)
    assert (caught.value.type, caught.value.error_code) == ("not_found_error", "model_not_found")
    assert caught.value.api_message == "The model 'claude-opus-4-5' does not exist."
    assert caught.value.request_id
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.count_tokens(model="claude-opus-4-5", messages=HI)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("DELETE", "/v1/messages/count_tokens", 405, "invalid_request_error"),
    ],
)
def test_unknown_paths_and_methods(http: httpx.Client, method: str, path: str, status: int, kind: str) -> None:
    """What is not there at all is told in the same shape."""
    assert error(http.request(method, path), status)["type"] == kind


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"max_tokens": NaN}', b"\xff"])
def test_bodies_that_are_no_objects(http: httpx.Client, body: bytes) -> None:
    """A body that cannot be read is an invalid request."""
    assert error(http.post(URL, content=body), 400)["details"] == {"error_code": "invalid_json"}


def test_a_field_at_fault(http: httpx.Client) -> None:
    """The message names the field."""
    told = error(http.post(URL, json=BODY | {"max_tokens": "many"}), 400)
    assert told["type"] == "invalid_request_error"
    assert "'max_tokens'" in told["message"]


def test_a_server_tool(claude: Anthropic) -> None:
    """A tool that Anthropic would run is refused by name."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(
            model=MODEL, max_tokens=9, messages=HI, tools=[{"type": "web_search_20250305", "name": "web_search"}]
        )
    assert "web_search_20250305" in caught.value.message
    assert caught.value.error_code == "unsupported_parameter"


def test_too_large_a_body(http: httpx.Client) -> None:
    """A body over the limit is refused before it is read."""
    assert error(http.post(URL, content=b" " * (1 << 20) + b"{}"), 413)["type"] == "invalid_request_error"


def test_too_long_a_prompt(stage: Stage, claude: Anthropic) -> None:
    """The message is the one out of which Claude Code reads by how much it must shorten the conversation."""
    words = "word " * 20_000
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > 8192 maximum"):
        claude.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": words}])
    assert stage.worker.submits == []


def test_a_text_that_nobody_counts(stage: Stage, http: httpx.Client) -> None:
    """A text so long that it is not counted is too long in the same words."""
    with stage.settings(server={"max_body": 64 << 20}):
        body = BODY | {"messages": [{"role": "user", "content": "word " * 4_000_000}]}
        assert "prompt is too long" in error(http.post(URL, json=body), 400)["message"]


def test_loading(stage: Stage, http: httpx.Client) -> None:
    """Before a worker is there clients are told that the server is overloaded, and when to come back."""
    stage.call(lambda: stage.worker.leave(Outlook.LOADING, wait_seconds=7.0))
    answer = http.post(URL, json=BODY)
    assert error(answer, 503)["type"] == "overloaded_error"
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("7", "true")


def test_a_full_queue(stage: Stage, http: httpx.Client) -> None:
    """One request more than may wait is a rate limit."""
    stage.call(lambda: stage.worker.leave(Outlook.RETURNING))
    with stage.settings(dispatch={"max_waiting": 0}):
        assert error(http.post(URL, json=BODY), 429)["type"] == "rate_limit_error"


def test_a_stream_that_fails(stage: Stage, http: httpx.Client, claude: Anthropic) -> None:
    """What fails in the middle is an error event, nothing that looks like an end, and an exception in the SDK."""
    stage.play(Script(token_ids=stage.tokens("Hello"), then="reject"))
    answer = http.post(URL, json=BODY | {"stream": True})
    found = events(answer.content)
    assert found[-1]["error"]["type"] == "api_error"
    assert found[-1]["request_id"] == answer.headers["request-id"]
    assert "message_stop" not in {event["type"] for event in found}
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        claude.messages.stream(model=MODEL, max_tokens=9, messages=HI) as stream,
    ):
        stream.until_done()
    assert caught.value.type == "api_error"


def test_a_fault_of_ours(stage: Stage, http: httpx.Client) -> None:
    """What nobody foresaw is an API error that tells nothing."""

    def crash(_submit: object) -> Script:
        raise ZeroDivisionError("a secret of ours")

    stage.play(crash)
    answer = http.post(URL, json=BODY)
    assert error(answer, 500)["type"] == "api_error"
    assert "secret" not in answer.text
    stage.reset()


def test_the_other_routes_are_as_they_were(http: httpx.Client) -> None:
    """What only begins like one of these paths is OpenAI's."""
    assert http.get("/v1/messagesque").json()["error"]["code"] == "not_found"
