"""Every route and status answers in OpenAI's shape, with an id, and says when to come back."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time

import httpx
import pytest
from openai import APIStatusError, InternalServerError, OpenAI, RateLimitError

from gemmad.supervisor.listener import Outlook
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_bad_input import HI, URL, refused

BODY = {"model": MODEL, "messages": HI}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nope"),
        ("GET", "/v1"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models/"),
        ("POST", "/v1/chat/completions/"),
        ("GET", "//v1/models"),
        ("GET", "/%00"),
        ("GET", "/%ff%fe"),
        ("GET", "/v1/../../etc/passwd"),
        ("GET", "/health/"),
        ("GET", "/" + "a" * 5000),
        ("GET", "/v1/models/nobody"),
        ("GET", "/v1/models/a/b%2Fc"),
    ],
)
def test_unknown_paths(http: httpx.Client, method: str, path: str) -> None:
    """A path that is not served is a 404 in the same shape as any error, never a redirect."""
    error = refused(http.request(method, httpx.URL(http.base_url).copy_with(raw_path=path.encode())), 404)
    assert len(error["message"]) < 400


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", URL, {"POST"}),
        ("DELETE", URL, {"POST"}),
        ("OPTIONS", URL, {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("PUT", "/health", {"GET", "HEAD"}),
        ("BREW", "/health", {"GET", "HEAD"}),
    ],
)
def test_unknown_methods(http: httpx.Client, method: str, path: str, allowed: set[str]) -> None:
    """A method that a path does not have is a 405 that names those it has."""
    answer = http.request(method, path)
    assert refused(answer, 405)["code"] == "method_not_allowed"
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: minus\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_bytes_that_are_no_http(stage: Stage, garbage: bytes) -> None:
    """Even what is no request at all is answered in that shape, or hung up on, and others go on."""
    answer = b""
    with socket.create_connection(("127.0.0.1", stage.port), timeout=10) as sock, contextlib.suppress(OSError):
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(65536):
            answer += data
    if answer:
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'{"error":{"message":' in answer
        assert b"x-request-id: req_" in answer
    assert httpx.get(f"{stage.url}/health").status_code == 200


def test_a_broken_body(stage: Stage) -> None:
    """A chunked body that breaks off ends the request, and no worker hears of it."""
    with socket.create_connection(("127.0.0.1", stage.port), timeout=10) as sock:
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'5\r\n{"a":\r\nzz\r\n'
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")
    assert stage.worker.submits == []
    assert httpx.get(f"{stage.url}/health").status_code == 200


def test_request_ids(stage: Stage, http: httpx.Client, client: OpenAI) -> None:
    """A sane id of the client's is echoed, any other is replaced, and the SDK shows it."""
    assert http.get("/health", headers={"x-request-id": "my id-7"}).headers["x-request-id"] == "my id-7"
    for bad in ("", "a" * 129, "caf\xe9"):
        made = http.get("/health", headers=[(b"x-request-id", bad.encode("latin-1"))]).headers["x-request-id"]
        assert re.fullmatch(r"req_[0-9a-f]{32}", made)
    stream = http.post(URL, json=BODY | {"stream": True}, headers={"x-request-id": "mine"})
    assert stream.headers["x-request-id"] == "mine"
    assert client.chat.completions.create(model=MODEL, messages=HI)._request_id  # type: ignore[arg-type]


def test_a_fault_of_ours(stage: Stage, http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is a 500 that tells nothing, logged with its traceback, and not to be retried."""

    def crash(_submit: object) -> Script:
        raise ZeroDivisionError("a secret of ours")

    stage.play(crash)
    answer = http.post(URL, json=BODY, headers={"x-request-id": "crash-1"})
    error = refused(answer, 500)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert answer.headers["x-should-retry"] == "false"
    assert "secret" not in answer.text
    assert any(record.exc_info and "crash-1" in str(record.msg) for record in caplog.records)
    stage.reset()
    assert http.post(URL, json=BODY).status_code == 200


def retry_after(answer: httpx.Response) -> int:
    """Whole seconds in the range that clients honour, and the same in milliseconds."""
    seconds = int(answer.headers["retry-after"])
    assert 1 <= seconds <= 120
    assert 0 < int(answer.headers["retry-after-ms"]) <= seconds * 1000
    assert answer.headers["x-should-retry"] == "true"
    return seconds


def test_loading(stage: Stage, http: httpx.Client) -> None:
    """Before a worker, or the tokenizer, is there requests are told to come back, bad ones that they are bad."""
    stage.call(lambda: stage.worker.leave(Outlook.LOADING, wait_seconds=7.0))
    answer = http.post(URL, json=BODY)
    assert refused(answer, 503)["type"] == "service_unavailable_error"
    assert retry_after(answer) == 7
    stage.served = False
    assert retry_after(http.post(URL, json=BODY)) >= 1
    assert refused(http.post(URL, json=BODY | {"temperature": 9}))["param"] == "temperature"


def test_nobody_will_come(stage: Stage, http: httpx.Client) -> None:
    """With all workers failed a request does not wait."""
    stage.call(lambda: stage.worker.leave(Outlook.NOBODY, wait_seconds=1000.0))
    assert retry_after(http.post(URL, json=BODY | {"stream": True})) == 120


def test_a_full_queue(stage: Stage, http: httpx.Client, client: OpenAI) -> None:
    """One request more than may wait is a 429 with the time when it would have its turn."""
    stage.call(lambda: stage.worker.leave(Outlook.RETURNING))
    with stage.settings(dispatch={"max_waiting": 1}):
        waiting = threading.Thread(target=lambda: httpx.post(stage.url + URL, json=BODY, timeout=20))
        waiting.start()
        stage.wait_until(lambda: stage.dispatcher.status().waiting == 1)
        answer = http.post(URL, json=BODY | {"stream": True})
        assert refused(answer, 429)["code"] == "queue_full"
        assert retry_after(answer) >= 1
        with pytest.raises(RateLimitError):
            client.chat.completions.create(model=MODEL, messages=HI)  # type: ignore[arg-type]
        stage.call(stage.worker.arrive)
        waiting.join()


def test_the_sdk_comes_back(stage: Stage) -> None:
    """The SDK waits as long as it is told, tries again, and succeeds."""
    stage.call(lambda: stage.worker.leave(Outlook.LOADING, wait_seconds=1.0))
    threading.Timer(0.3, lambda: stage.call(stage.worker.arrive)).start()
    began = time.monotonic()
    with stage.client(max_retries=2) as client:
        reply = client.chat.completions.create(model=MODEL, messages=HI)  # type: ignore[arg-type]
    assert reply.choices[0].message.content == "Hello there."
    assert 0.9 < time.monotonic() - began < 3.0


def test_the_sdk_does_not_repeat_what_is_pointless(stage: Stage) -> None:
    """A failure that would come again is not tried again, though its status is 500."""
    stage.play(Script(then="reject", token_ids=stage.tokens("a")))
    with stage.client(max_retries=2) as client, pytest.raises(InternalServerError):
        client.chat.completions.create(model=MODEL, messages=HI)  # type: ignore[arg-type]
    assert len(stage.worker.submits) == 1


def test_a_request_that_the_worker_cannot_take(stage: Stage, client: OpenAI) -> None:
    """What a worker refuses before it says anything is a 400."""
    stage.play(Script(then="reject"))
    with pytest.raises(APIStatusError) as caught:
        client.chat.completions.create(model=MODEL, messages=HI)  # type: ignore[arg-type]
    assert caught.value.status_code == 400


def test_waiting_longest(stage: Stage, http: httpx.Client) -> None:
    """A request that waited its longest is a 429 for who waits for the whole, and an error event in a stream."""
    stage.call(lambda: stage.worker.leave(Outlook.RETURNING))
    with stage.settings(dispatch={"max_wait": 0.2}):
        assert refused(http.post(URL, json=BODY), 429)["code"] == "queue_full"
        stream = http.post(URL, json=BODY | {"stream": True})
    assert stream.status_code == 200
    assert '"code":"queue_full"' in stream.text
    assert "[DONE]" not in stream.text
