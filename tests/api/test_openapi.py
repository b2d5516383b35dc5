"""Real answers against `/openapi.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import referencing
from referencing.jsonschema import DRAFT202012

from gemmad.config.keyring import Keyring, parse_keyring
from gemmad.supervisor.listener import Outlook
from tests.api.decisions.network import held_of, play_network
from tests.api.stage import MODEL, Stage
from tests.api.test_bad_input import HI

ANTHROPIC = {"model": MODEL, "max_tokens": 5, "messages": HI}

SERVED: list[tuple[str, str, Any]] = [
    ("GET", "/", None),
    ("GET", "/health", None),
    ("GET", "/health/ready", None),
    ("GET", "/health/live", None),
    ("GET", "/version", None),
    ("GET", "/metrics", None),
    ("GET", "/openapi.json", None),
    ("GET", "/v1/models", None),
    ("GET", f"/v1/models/{MODEL}", None),
    ("POST", "/v1/chat/completions", {"model": MODEL, "messages": HI, "n": 2}),
    ("POST", "/v1/chat/completions", {"model": MODEL, "messages": HI, "stream": True}),
    ("POST", "/v1/chat/completions", {"model": MODEL, "messages": HI, "tools": [], "user": "somebody"}),
    ("POST", "/v1/completions", {"model": MODEL, "prompt": "Hi"}),
    ("POST", "/v1/completions", {"model": MODEL, "prompt": "Hi", "stream": True}),
    ("POST", "/v1/responses", {"model": MODEL, "input": "Hi"}),
    ("POST", "/v1/responses", {"model": MODEL, "input": "Hi", "stream": True}),
    ("POST", "/v1/responses/input_tokens", {"model": MODEL, "input": "Hi"}),
    ("POST", "/v1/messages", ANTHROPIC),
    ("POST", "/v1/messages", {**ANTHROPIC, "stream": True}),
    ("POST", "/v1/messages/count_tokens", {"model": MODEL, "messages": HI}),
    ("POST", "/tokenize", {"prompt": "Hi"}),
    ("POST", "/tokenize", {"model": MODEL, "messages": HI, "return_token_strs": True}),
    ("POST", "/detokenize", {"tokens": [1, 2, 3]}),
    ("POST", "/api/chat", {"model": MODEL, "messages": HI, "stream": False}),
    ("POST", "/api/chat", {"model": MODEL, "messages": HI}),
    ("POST", "/api/generate", {"model": MODEL, "prompt": "Hi", "stream": False}),
    ("POST", "/api/show", {"model": MODEL}),
    ("GET", "/api/tags", None),
    ("GET", "/api/ps", None),
    ("GET", "/api/version", None),
]
REFUSED: list[tuple[str, str, Any]] = [
    ("POST", "/v1/chat/completions", {"model": MODEL}),
    ("POST", "/v1/chat/completions", {"model": "nobody", "messages": HI}),
    ("POST", "/v1/completions", {"model": MODEL, "prompt": 1.5}),
    ("POST", "/v1/responses", {"model": MODEL, "input": 1}),
    ("POST", "/v1/responses", {"model": MODEL, "input": "Hi", "previous_response_id": "resp_none"}),
    ("POST", "/v1/responses/input_tokens", {"input": 1}),
    ("GET", "/v1/responses/resp_none", None),
    ("DELETE", "/v1/responses/resp_none", None),
    ("POST", "/v1/responses/resp_none/cancel", None),
    ("GET", "/v1/responses/resp_none/input_items", None),
    ("POST", "/v1/decisions", {"model": MODEL}),
    ("POST", "/v1/messages", {"model": MODEL}),
    ("POST", "/v1/messages/count_tokens", {"model": "nobody", "messages": HI}),
    ("POST", "/tokenize", {"prompt": 1}),
    ("POST", "/detokenize", {"tokens": "x"}),
    ("POST", "/api/chat", {"messages": 1}),
    ("POST", "/api/generate", {"model": "nobody"}),
    ("POST", "/api/show", {"model": "nobody"}),
    ("GET", "/v1/models/nobody", None),
]


class Description:
    """What the running server says of itself, to hold its answers against."""

    def __init__(self, described: dict[str, Any]) -> None:
        # a schema that is held against alone must know which document its references are of
        absolute = json.loads(json.dumps(described).replace('"#/components', '"urn:described#/components'))
        self._described = absolute
        resource = referencing.Resource.from_contents(absolute, default_specification=DRAFT202012)
        self._registry = referencing.Registry().with_resource("urn:described", resource)

    def hold(self, answer: httpx.Response) -> None:
        """Fails unless status, type and content are described, and what was accepted is what is described as such."""
        operation = self._operation(answer.request)
        status = str(answer.status_code)
        assert status in operation["responses"], f"{status} is not described: {answer.text}"
        media_type = answer.headers["content-type"].partition(";")[0]
        content = operation["responses"][status]["content"]
        assert media_type in content, f"{media_type} is not described"
        for header in operation["responses"][status]["headers"]:
            assert header in answer.headers
        for value, schema in _values(answer.text, media_type, content[media_type]["schema"]):
            self._check(value, schema)
        if answer.request.content and status == "200":
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            self._check(json.loads(answer.request.content), body)

    def _operation(self, request: httpx.Request) -> dict[str, Any]:
        """A path without variables comes before one with them, as in the app."""
        for path, methods in sorted(self._described["paths"].items(), key=lambda item: item[0].count("{")):
            pattern = "/".join("[^/]+" if step.startswith("{") else re.escape(step) for step in path.split("/"))
            if re.fullmatch(pattern, request.url.path) and request.method.lower() in methods:
                operation: dict[str, Any] = methods[request.method.lower()]
                return operation
        raise AssertionError(f"{request.method} {request.url.path} is not described")

    def _check(self, value: Any, schema: dict[str, Any]) -> None:
        jsonschema.Draft202012Validator(schema, registry=self._registry).validate(value)


def _values(text: str, media_type: str, schema: dict[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    if media_type == "application/json":
        yield json.loads(text), schema
    elif media_type == "application/x-ndjson":
        yield from ((json.loads(line), schema["contentSchema"]) for line in text.splitlines())
    elif media_type == "text/event-stream":
        data = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
        yield from ((json.loads(line), schema["contentSchema"]) for line in data if line != "[DONE]")


@pytest.fixture
def description(stage: Stage, http: httpx.Client) -> Description:
    answer = http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return Description(answer.json())


def ask(http: httpx.Client, method: str, path: str, body: Any) -> httpx.Response:
    return http.request(method, path, json=body) if body is not None else http.request(method, path)


@pytest.mark.parametrize(("method", "path", "body"), SERVED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_served(description: Description, http: httpx.Client, method: str, path: str, body: Any) -> None:
    """Requests that are served are described as such, and so are their answers, event by event."""
    answer = ask(http, method, path, body)
    assert answer.status_code == 200, answer.text
    description.hold(answer)


@pytest.mark.parametrize(("method", "path", "body"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_refused(description: Description, http: httpx.Client, method: str, path: str, body: Any) -> None:
    """Refusals have a status that is described, and the shape that is described for it."""
    answer = ask(http, method, path, body)
    assert 400 <= answer.status_code < 500
    description.hold(answer)


@pytest.mark.parametrize(("method", "path", "body"), SERVED, ids=lambda value: value if isinstance(value, str) else "")
def test_without_a_key(
    stage: Stage, description: Description, http: httpx.Client, method: str, path: str, body: Any
) -> None:
    """Where a key is needed the 401 is described, and what needs none is served."""
    stage.keyring = parse_keyring(b"sk-a-secret-key", path=Path("keys"))
    answer = ask(http, method, path, body)
    stage.keyring = Keyring()
    description.hold(answer)


def test_while_nobody_serves(stage: Stage, description: Description, http: httpx.Client) -> None:
    """A 503 comes with the headers that its description names; that of `/health` is an answer like its 200."""
    stage.call(lambda: stage.worker.leave(Outlook.NOBODY))
    for method, path, body in SERVED:
        answer = ask(http, method, path, body)
        assert answer.status_code in (200, 503)
        description.hold(answer)


def test_stored_responses(description: Description, http: httpx.Client) -> None:
    """What is stored can be had, listed and deleted as described."""
    made = http.post("/v1/responses", json={"model": MODEL, "input": "Hi"}).json()
    for path in ("", "/input_items?limit=1&order=asc"):
        answer = http.get(f"/v1/responses/{made['id']}{path}")
        assert answer.status_code == 200, answer.text
        description.hold(answer)
    answer = http.delete(f"/v1/responses/{made['id']}")
    assert answer.status_code == 200
    description.hold(answer)


def test_a_decision(stage: Stage, description: Description, http: httpx.Client) -> None:
    """Answers of all three types are as described."""
    held = held_of(stage, Yes=0.36, No=0.12, A=0.03, B=0.06, _0=0.01, _1=0.02)
    play_network(stage, lambda _submit: held)
    questions = [
        {"type": "predicate", "instructions": "It greets.", "name": "greets"},
        {"type": "choice", "instructions": "Which?", "choices": [{"value": "a"}, {"value": True}]},
        {"type": "score", "instructions": "How much?", "levels": [{"label": "low"}, {"label": "high"}]},
    ]
    answer = http.post("/v1/decisions", json={"model": MODEL, "input": "Hi", "questions": questions})
    assert answer.status_code == 200, answer.text
    description.hold(answer)
