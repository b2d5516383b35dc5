"""Who may call, once there are keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AuthenticationError, OpenAI, RateLimitError

from gemmad.config.keyring import Keyring, parse_keyring
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_bad_input import HI, URL, refused

KEY, OTHER, ADMIN = "sk-alices-own-key", "sk-bobs-own-key", "sk-the-operator"
BODY: dict[str, Any] = {"model": MODEL, "messages": HI}


def keyring(text: str, *, admin: bool = False) -> Keyring:
    return parse_keyring(text.encode(), path=Path("keys"), admin=admin)


@pytest.fixture
def guarded(stage: Stage) -> Iterator[Stage]:
    """Alice and Bob have a key each, and so has an operator."""
    stage.keyring = keyring(f"alice:{KEY}\nbob:{OTHER}\n") | keyring(f"op:{ADMIN}", admin=True)
    yield stage
    stage.keyring = Keyring()


@pytest.fixture
def alice(guarded: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, timeout=20, headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "No API key was sent"),
        ({"Authorization": "Bearer"}, "No API key was sent"),
        ({"Authorization": f"Basic {KEY}"}, "No API key was sent"),
        ({"Authorization": KEY}, "No API key was sent"),
        ({"x-api-key": ""}, "No API key was sent"),
        ({"Authorization": f"Bearer {KEY}x"}, "Incorrect API key"),
        ({"Authorization": f"Bearer {KEY[:-1]}"}, "Incorrect API key"),
        ({"x-api-key": "nobody's"}, "Incorrect API key"),
        ({"Authorization": b"Bearer \xff\xfe" + KEY.encode()}, "Incorrect API key"),
        ({"x-api-key": "a" * 20_000}, "Incorrect API key"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", URL), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/"), ("GET", "/nope"), ("PUT", "/health/x")],
)
def test_without_a_key(
    guarded: Stage, http: httpx.Client, method: str, path: str, headers: dict[str, str], words: str
) -> None:
    """Without a key that is right, every path but those about life is a 401 that says how to send one, whatever is
    there and whatever is sent."""
    answer = http.request(method, path, headers=headers, content=b"{")
    error = refused(answer, 401)
    assert (error["type"], error["code"], error["param"]) == ("authentication_error", "invalid_api_key", None)
    assert words in error["message"]
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"]
    assert KEY[:-1] not in answer.text
    assert guarded.worker.submits == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY}"},
        {"x-api-key": KEY},
        {"x-api-key": KEY, "Authorization": "Bearer something-else"},
        [("Authorization", "Bearer something-else"), ("Authorization", f"Bearer {KEY}")],
    ],
)
def test_with_a_key(guarded: Stage, http: httpx.Client, headers: dict[str, str]) -> None:
    """A key may come in either header; one that is right is enough."""
    assert http.get("/v1/models", headers=headers).status_code == 200
    answer = http.post(URL, json=BODY, headers=headers)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello there."


def test_the_sdk_says_what_is_wrong(guarded: Stage) -> None:
    """The official SDK raises its own error for a wrong key, and is served with a right one."""
    with OpenAI(base_url=f"{guarded.url}/v1", api_key="sk-wrong-key", max_retries=0) as wrong:
        with pytest.raises(AuthenticationError) as caught:
            wrong.models.list()
        assert caught.value.code == "invalid_api_key"
        assert wrong.with_options(api_key=KEY).models.list().data[0].id == MODEL


def test_what_lives_says_so_to_everyone(guarded: Stage, http: httpx.Client, alice: httpx.Client) -> None:
    """Probes need no key; without one they are told no more than the state."""
    assert http.get("/health").json() == http.get("/health/ready").json() == {"status": "ready"}
    assert http.get("/health/live").json() == {"status": "live"}
    assert http.get("/version").json() == {"version": "1.2.3"}
    assert http.get("/health", headers={"x-api-key": "wrong-key"}).json() == {"status": "ready"}
    assert {"status", "models", "workers"} == alice.get("/health").json().keys()


def test_keys_change_while_a_stream_goes_on(guarded: Stage) -> None:
    """New keys hold from the next request on; what was admitted with an old one ends as it would have."""
    guarded.play(Script(token_ids=guarded.tokens("one two three four"), pause_seconds=0.05))
    with OpenAI(base_url=f"{guarded.url}/v1", api_key=KEY, max_retries=0) as client:
        stream: Any = client.chat.completions.create(**BODY, stream=True)
        next(stream)
        guarded.keyring = keyring("alice:sk-alices-new-key")
        with pytest.raises(AuthenticationError):
            client.models.list()
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == "one two three four"
        assert client.with_options(api_key="sk-alices-new-key").models.list().data


def test_a_key_has_its_share(guarded: Stage) -> None:
    """What a key may have under way is bounded, per key and not for operators; who is refused is told when to come
    back, and a request that has ended, or was given up, makes room."""
    guarded.play(Script(token_ids=guarded.tokens("x"), then="silence"))
    ask: dict[str, Any] = {**BODY, "stream": True}
    with guarded.settings(auth={"max_concurrent": 2}), guarded.client() as client:
        streams = [client.with_options(api_key=KEY).chat.completions.create(**ask) for _ in range(2)]
        with pytest.raises(RateLimitError) as caught:
            client.with_options(api_key=KEY).chat.completions.create(**ask)
        assert caught.value.code == "too_many_concurrent"
        assert caught.value.type == "rate_limit_error"
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 120
        assert caught.value.response.headers["x-should-retry"] == "true"
        assert client.with_options(api_key=KEY).models.list().data
        for key in (OTHER, ADMIN, ADMIN, ADMIN):
            streams.append(client.with_options(api_key=key).chat.completions.create(**ask))
        streams.pop(0).close()
        guarded.wait_until(lambda: len(guarded.worker.at_work) == len(streams))
        streams.append(client.with_options(api_key=KEY).chat.completions.create(**ask))
        for stream in streams:
            stream.close()


def test_fairness_goes_by_the_holder(guarded: Stage, http: httpx.Client) -> None:
    """All keys of one holder are one asker in the queue, and the log knows it by name."""
    guarded.play(Script(token_ids=guarded.tokens("x"), then="silence"))
    guarded.keyring = keyring(f"alice:{KEY}\nalice:{OTHER}")
    with guarded.client() as client:
        clients = [client.with_options(api_key=key) for key in (KEY, OTHER)]
        streams = [client.chat.completions.create(**BODY, stream=True) for client in clients]
        assert guarded.call(lambda: {ticket.request.key for ticket in guarded.dispatcher._table}) == {"key alice"}
        for stream in streams:
            stream.close()


def test_no_key_is_written_anywhere(
    guarded: Stage,
    http: httpx.Client,
    alice: httpx.Client,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever happens with a request, its key is in no log line, metric, answer or traceback; its holder's name is."""
    caplog.set_level(0)
    answers = [
        alice.post(URL, json=BODY),
        alice.post(URL, json={**BODY, "stream": True}),
        alice.post(URL, json={"model": KEY[:4]}),
        alice.get("/health"),
        alice.get("/metrics"),
        alice.get("/nope"),
        http.get("/v1/models", headers={"Authorization": f"Bearer {KEY}-almost"}),
        http.get("/v1/models", headers={"x-api-key": f"{KEY}-almost"}),
    ]
    with guarded.settings(server={"max_body": "many"}):  # a fault of ours, with a traceback
        answers.append(alice.post(URL, json=BODY))
    assert answers[-1].status_code == 500
    captured = capfd.readouterr()
    written = [*(answer.text + str(answer.headers) for answer in answers), caplog.text, captured.out, captured.err]
    written += [f"{record.msg} {record.args} {record.exc_text}" for record in caplog.records]
    assert "Traceback" in "".join(written)
    assert "alice" in "".join(written)
    for text in written:
        assert KEY not in text


def test_many_at_once(guarded: Stage) -> None:
    """Under a crowd no count goes wrong: when all is over a key has its whole share again."""
    results: list[int] = []

    def ask() -> None:
        answer = httpx.post(guarded.url + URL, json=BODY, headers={"x-api-key": KEY}, timeout=20)
        results.append(answer.status_code)

    with guarded.settings(auth={"max_concurrent": 3}):
        for _ in range(3):
            threads = [threading.Thread(target=ask) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
        assert set(results) <= {200, 429}
        assert results.count(200) >= 3
        ask()
        assert results[-1] == 200
