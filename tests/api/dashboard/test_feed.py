"""The event stream over real connections."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import httpx
import msgspec

from gemmad.api.dashboard.feed import MOST_LISTENERS
from gemmad.api.dashboard.snapshot import LivePoints, Snapshot
from gemmad.config.keyring import Keyring
from tests.api.dashboard.conftest import ADMIN, KEY, bearer
from tests.api.stage import PATIENCE_SECONDS, Stage
from tests.api.test_bad_input import refused

EVENTS = "/dashboard/events"


def read(answer: httpx.Response) -> Iterator[tuple[str, bytes]]:
    """Events as `(name, data)`."""
    name = ""
    for line in answer.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, value.encode()


def listen(stage: Stage) -> socket.socket:
    """One who is sent events, and does not read them."""
    connection = socket.create_connection(("127.0.0.1", stage.port), timeout=PATIENCE_SECONDS)
    connection.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def wait_until_free(http: httpx.Client) -> None:
    """Return once there is a place: that a listener has left is seen a moment later."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        with http.stream("GET", EVENTS) as answer:
            if answer.status_code == 200:
                return
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_from_the_first_event_on(http: httpx.Client) -> None:
    """First the last minutes, and then a snapshot at once and each second, in order."""
    with http.stream("GET", EVENTS) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        events = read(answer)
        name, data = next(events)
        assert (name, msgspec.json.decode(data, type=LivePoints).points) == ("live", ())
        told = [next(events) for _ in range(3)]
    assert [name for name, _ in told] == ["snapshot"] * 3
    snapshots = [msgspec.json.decode(data, type=Snapshot) for _, data in told]
    assert snapshots[0].overview.workers[0].name == "cpu0"
    assert not snapshots[0].may_act
    first, second, third = (snapshot.at for snapshot in snapshots)
    assert first < second < third < first + PATIENCE_SECONDS


def test_with_a_session(http: httpx.Client, token: str) -> None:
    """Who may act is told so, while others listen who may not."""
    with http.stream("GET", EVENTS) as visitors, http.stream("GET", EVENTS, headers=bearer(token)) as operators:
        for answer, may_act in ((visitors, False), (operators, True)):
            events = read(answer)
            snapshots = [msgspec.json.decode(data, type=Snapshot) for name, data in (next(events), next(events))[1:]]
            assert [snapshot.may_act for snapshot in snapshots] == [may_act]


def test_who_may_listen(guarded: Stage, http: httpx.Client, token: str) -> None:
    """As with the rest of the dashboard's data."""
    refused(http.get(EVENTS), 401)
    refused(http.get(EVENTS, headers=bearer(KEY)), 403)
    for key in (ADMIN, token):
        with http.stream("GET", EVENTS, headers=bearer(key)) as answer:
            assert answer.status_code == 200
            assert next(read(answer))[0] == "live"


def test_head_takes_no_place(http: httpx.Client) -> None:
    """It is told the headers, and is done."""
    for _ in range(MOST_LISTENERS + 1):
        answer = http.head(EVENTS)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    refused(http.post(EVENTS), 405)


def test_places_are_bounded(stage: Stage, http: httpx.Client) -> None:
    """All places taken by listeners that never read: one more is a 503, and the API answers as ever."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(listen(stage)) for _ in range(MOST_LISTENERS)]
        for listener in listeners:
            assert listener.recv(12) == b"HTTP/1.1 200"
        refusal = http.get(EVENTS)
        error = refused(refusal, 503)
        assert "64 listeners" in error["message"]
        assert int(refusal.headers["retry-after"]) >= 1
        assert http.get("/health").status_code == 200
        assert http.get("/dashboard/snapshot").status_code == 200
    wait_until_free(http)


def test_a_change_of_keys_ends_it(guarded: Stage, http: httpx.Client) -> None:
    """Whose key is gone sees no more within a second or so: the page connects anew, and is asked for one."""
    with http.stream("GET", EVENTS, headers=bearer(ADMIN)) as answer:
        events = read(answer)
        assert next(events)[0] == "live"
        guarded.keyring = Keyring()
        assert sum(1 for _ in events) <= 3


def test_the_end_of_a_session_ends_it(stage: Stage, http: httpx.Client, token: str) -> None:
    """The stream does not outlive the session that it was opened with."""
    with http.stream("GET", EVENTS, headers=bearer(token)) as answer:
        events = read(answer)
        assert next(events)[0] == "live"
        for _ in range(16):
            stage.call(stage.services.sessions.begin)
        assert sum(1 for _ in events) <= 3
