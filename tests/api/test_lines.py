"""The log of requests: one line for each, whatever its dialect and however it ends, and its id in every other line."""

from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gemmad import logs
from gemmad.config.keyring import parse_keyring
from gemmad.supervisor.listener import Outlook, Verdict
from tests.api.decisions.network import held_of, play_network
from tests.api.stage import MODEL, Script, Stage
from tests.fakes.media_pictures import data_url, noise, saved

SECRET = "xyzzy"
TALK = [{"role": "user", "content": f"My secret is {SECRET}."}]
QUESTION = {"type": "predicate", "name": "angry", "instructions": "The customer is angry."}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": TALK},
    "/v1/completions": {"prompt": f"My secret is {SECRET}."},
    "/v1/responses": {"input": f"My secret is {SECRET}.", "store": False},
    "/v1/messages": {"messages": TALK, "max_tokens": 100},
    "/api/chat": {"messages": TALK},
    "/api/generate": {"prompt": f"My secret is {SECRET}."},
}
WAYS = [(path, stream) for path in BODIES for stream in (False, True)]
ways = pytest.mark.parametrize(("path", "stream"), WAYS)


class Log:
    """What is logged while a test runs, at every level."""

    def __init__(self) -> None:
        self._out = io.StringIO()
        logs.configure("debug", "json", stream=self._out, env={})

    @property
    def text(self) -> str:
        return self._out.getvalue()

    def lines(self, request_id: str) -> list[dict[str, Any]]:
        """Those of one request."""
        return [one for line in self.text.splitlines() if (one := json.loads(line)).get("request_id") == request_id]

    def ends(self, request_id: str) -> list[dict[str, Any]]:
        """Those that tell how it ended."""
        return [line for line in self.lines(request_id) if line["event"] == "request finished"]


@pytest.fixture
def log(stage: Stage) -> Iterator[Log]:
    del stage
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Log()
    root.handlers[:] = handlers
    root.setLevel(level)


def asked(path: str, *, stream: bool, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "stream": stream, **BODIES[path], **more}


def post(http: httpx.Client, path: str, body: dict[str, Any], *, name: str = "mine", **headers: str) -> httpx.Response:
    return http.post(path, json=body, headers={"x-request-id": name, **headers})


def only(stage: Stage, log: Log, name: str = "mine") -> dict[str, Any]:
    """The one line of a request, once everything about it is over."""
    stage.wait_until(lambda: bool(log.ends(name)))
    stage.wait_until(stage.is_idle)
    (line,) = log.ends(name)
    assert SECRET not in log.text
    return line


@ways
def test_a_reply(stage: Stage, http: httpx.Client, log: Log, path: str, stream: bool) -> None:
    """A request that is answered has one line with all there is to know of it."""
    assert post(http, path, asked(path, stream=stream)).status_code == 200
    line = only(stage, log)
    assert (line["level"], line["path"], line["status"], line["finish"]) == ("info", path, 200, "stop")
    assert (line["model"], line["stream"], line["workers"], line["failovers"]) == (MODEL, stream, "scripted", 0)
    assert (line["cached_tokens"], line["completion_tokens"] > 1, line["prompt_tokens"] > 3) == (3, True, True)
    assert 0 <= line["queue_seconds"] <= line["ttft_seconds"] <= line["seconds"]
    assert ("response_id" in line) == path.startswith("/v1")


@ways
def test_a_refusal(stage: Stage, http: httpx.Client, log: Log, path: str, stream: bool) -> None:
    """A body that is none, a model that is not there and a full queue each are one line that says why."""
    http.post(path, content=b"{", headers={"x-request-id": "broken"})
    post(http, path, asked(path, stream=stream, model="nobody"), name="nobody")
    stage.call(lambda: stage.worker.leave(Outlook.RETURNING))
    with stage.settings(dispatch={"max_waiting": 0}):
        post(http, path, asked(path, stream=stream), name="full")
    told = [only(stage, log, name) for name in ("broken", "nobody", "full")]
    assert [(line["level"], line["status"], line["finish"]) for line in told] == [
        ("info", 400, "refused"),
        ("info", 404, "refused"),
        ("info", 429, "refused"),
    ]
    assert [line["error"] for line in told[1:]] == ["model_not_found", "queue_full"]


@ways
def test_a_stranger(stage: Stage, http: httpx.Client, log: Log, path: str, stream: bool) -> None:
    """A request without its key is one line, one with it has the key's name; the key itself is nowhere."""
    stage.keyring = parse_keyring(b"ann:sk-the-key-itself\n", path=Path("keys"))
    post(http, path, asked(path, stream=stream), name="stranger")
    post(http, path, asked(path, stream=stream), name="friend", authorization="Bearer sk-the-key-itself")
    refused, served = only(stage, log, "stranger"), only(stage, log, "friend")
    assert (refused["level"], refused["status"], refused["finish"]) == ("info", 401, "refused")
    assert (served["status"], served["key"]) == (200, "ann")
    assert "sk-the-key" not in log.text


@ways
def test_a_failure(stage: Stage, http: httpx.Client, log: Log, path: str, stream: bool) -> None:
    """A reply that breaks off is one line with the code that the client was told, whatever the status was by then."""
    stage.play(Script(token_ids=stage.tokens("one two"), then="reject"))
    post(http, path, asked(path, stream=stream))
    line = only(stage, log)
    assert (line["status"], line["finish"], line["error"]) == (200 if stream else 500, "error", "rejected")
    assert line["completion_tokens"] > 0
    (rejected,) = [one for one in log.lines("mine") if one["event"] == "request rejected by its worker"]
    assert rejected["number"] == stage.worker.submits[0].request_id


@ways
def test_a_client_that_leaves(stage: Stage, log: Log, path: str, stream: bool) -> None:
    """One who hangs up is one line, too."""
    stage.play(Script(token_ids=stage.tokens("word " * 50), pause_seconds=0.02))
    body = json.dumps(asked(path, stream=stream)).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nx-request-id: mine\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stage.port), timeout=10) as sock:
        sock.sendall(head.encode() + body)
        stage.wait_until(lambda: bool(stage.worker.at_work))
    assert only(stage, log)["finish"] == "gone"


@ways
def test_a_lost_worker(stage: Stage, http: httpx.Client, log: Log, path: str, stream: bool) -> None:
    """A reply that moved on says so: how often, and the time that it waited."""
    tokens = (*stage.tokens("one two three four"), stage.text.stop_token_ids[-1])
    stage.play(Script(token_ids=tokens, pause_seconds=0.02))

    def die() -> None:
        stage.worker.leave(Outlook.RETURNING, verdict=Verdict.SUSPECT)
        stage.worker.arrive()

    def interrupt() -> None:
        stage.wait_until(lambda: any(request.said_tokens for request in stage.dispatcher.requests()))
        stage.call(die)

    run_beside(interrupt, lambda: post(http, path, asked(path, stream=stream)))
    line = only(stage, log)
    assert (line["finish"], line["failovers"], line["workers"]) == ("stop", 1, "scripted")


def test_decisions(stage: Stage, http: httpx.Client, log: Log) -> None:
    """Many prompts of one request are one line."""
    held = held_of(stage, Yes=0.5, No=0.2)
    play_network(stage, lambda _submit: held)
    body = {"model": MODEL, "input": f"My secret is {SECRET}.", "questions": [QUESTION, QUESTION | {"name": "sad"}]}
    assert post(http, "/v1/decisions", body).status_code == 200
    line = only(stage, log)
    assert (line["finish"], line["workers"], line["completion_tokens"]) == (
        "stop",
        "scripted",
        len(stage.worker.submits),
    )


def test_choices(stage: Stage, http: httpx.Client, log: Log) -> None:
    """Several choices are one line that says how many."""
    post(http, "/v1/chat/completions", asked("/v1/chat/completions", stream=True, n=3))
    line = only(stage, log)
    assert (line["choices"], line["finish"]) == (3, "stop")


def test_pictures(stage: Stage, http: httpx.Client, log: Log) -> None:
    """A line says how many pictures were shown; one that is none has its request's id in what is said of it."""
    path = "/v1/chat/completions"
    for name, data in (("good", saved(noise(), "PNG")), ("bad", b"no picture")):
        parts = [{"type": "image_url", "image_url": {"url": data_url(data)}}]
        post(http, path, asked(path, stream=False, messages=[{"role": "user", "content": parts}]), name=name)
    assert only(stage, log, "good")["images"] == 1
    assert only(stage, log, "bad")["finish"] == "refused"
    assert "image refused" in [line["event"] for line in log.lines("bad")]


@pytest.mark.parametrize("stream", [False, True])
def test_in_the_background(stage: Stage, http: httpx.Client, log: Log, stream: bool) -> None:
    """A reply that is made after its answer has its line when it is made, and only then."""
    stage.play(Script(token_ids=stage.tokens("one two"), pause_seconds=0.02, then="silence"))
    body = {"model": MODEL, "input": "Hi", "background": True, "stream": False}
    response = post(http, "/v1/responses", body, authorization="Bearer none").json()
    stage.wait_until(lambda: any(request.said_tokens for request in stage.dispatcher.requests()))
    assert log.ends("mine") == []
    if stream:
        stage.call(lambda: stage.dispatcher.cancel("mine"))
    else:
        http.post(f"/v1/responses/{response['id']}/cancel", headers={"authorization": "Bearer none"})
    line = only(stage, log)
    assert (line["background"], line["response_id"], line["status"]) == (True, response["id"], 200)
    assert line["finish"] in ("error", "gone")


def test_a_caller_that_traces(stage: Stage, http: httpx.Client, log: Log) -> None:
    """The caller's trace is in every line of a request, and of no other."""
    trace, path = "4bf92f3577b34da6a3ce929d0e0e4736", "/v1/chat/completions"
    post(http, path, asked(path, stream=False), traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    post(http, path, asked(path, stream=False), name="other")
    only(stage, log)
    assert {line.get("trace_id") for line in log.lines("mine")} == {trace}
    assert not any("trace_id" in line for line in log.lines("other"))


def test_what_only_asks(stage: Stage, http: httpx.Client, log: Log) -> None:
    """Questions about health and models are one line each as well, for those who debug."""
    http.get("/health", headers={"x-request-id": "health"})
    http.get("/nowhere", headers={"x-request-id": "nowhere"})
    assert [only(stage, log, name)["level"] for name in ("health", "nowhere")] == ["debug", "debug"]


def test_each_hand_over_is_known(stage: Stage, http: httpx.Client, log: Log) -> None:
    """What a worker calls a request is in the debug log beside what its client calls it."""
    path = "/v1/chat/completions"
    post(http, path, asked(path, stream=False))
    only(stage, log)
    (handed,) = [line for line in log.lines("mine") if line["event"] == "request handed over"]
    assert (handed["number"], handed["worker"]) == (stage.worker.submits[0].request_id, "scripted")


def run_beside(other: Callable[[], None], work: Callable[[], Any]) -> None:
    """Two things at once; fails if either does."""
    with ThreadPoolExecutor(1) as threads:
        beside = threads.submit(other)
        work()
        beside.result()
