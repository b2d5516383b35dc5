"""Posts to a real server on this machine, which is well, slow, broken or gone."""

from __future__ import annotations

import asyncio
import http.server
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from gemmad.config.schema import MonitorSection
from gemmad.monitor.alert import Alert
from gemmad.monitor.thresholds import Change
from gemmad.monitor.webhook import QUEUE_LIMIT, Webhook

PATIENCE_SECONDS = 20.0
SECRET = "/hooks/T0P-SECRET"


class Receiver:
    """What it got, and what it answers."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        """To answer with, one after another; 200 once there is none."""
        self.headers: list[dict[str, str]] = []
        self.hang = threading.Event()
        """Set: it answers."""
        self.hang.set()
        self.paths: list[str] = []
        self.url = ""


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.paths.append(self.path)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            receiver.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            receiver.hang.wait(PATIENCE_SECONDS)
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}{SECRET}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.hang.set()
        server.shutdown()
        server.server_close()
        thread.join()


def change(about: str = "kv", event: Any = "begins") -> Change:
    alert = Alert(
        level="warning",
        about=about,
        worker="gpu0",
        share=0.85,
        words="gpu0 uses 85% of KV pages",
        action="give it more",
        since_seconds=0.0,
    )
    return Change(event=event, alert=alert)


def webhook(url: str | None, *, timeout: float = 5.0, pauses: tuple[float, ...] = (0.01, 0.01)) -> Webhook:
    section = MonitorSection(webhook=url, webhook_timeout=timeout)
    return Webhook(section=lambda: section, host="box", version="1.2.3", wall=lambda: 1e9, pauses_seconds=pauses)


def posting(hook: Webhook, until: Callable[[], bool], *changes: Change) -> None:
    """Have these posted, and stop when it has come to that."""

    async def work() -> None:
        running = asyncio.create_task(hook.run())
        for each in changes:
            hook.post(each)
        await soon(until)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())


def soon(until: Callable[[], bool]) -> Awaitable[None]:
    async def wait() -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not until():
            assert time.monotonic() < give_up
            await asyncio.sleep(0.005)

    return wait()


def said(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", line.msg) for line in caplog.records if line.name == "gemmad.monitor.webhook"]


def test_the_body() -> None:
    """An alert comes as JSON with all that is known of it, and a text for chats."""
    with receiving() as receiver:
        posting(webhook(receiver.url), lambda: len(receiver.bodies) == 2, change(), change(event="ends"))
    assert receiver.bodies[0] == {
        "text": "gemmad on box: warning: gpu0 uses 85% of KV pages. To do: give it more.",
        "event": "begins",
        "level": "warning",
        "about": "kv",
        "worker": "gpu0",
        "share": 0.85,
        "words": "gpu0 uses 85% of KV pages",
        "action": "give it more",
        "since_seconds": 0.0,
        "at": 1e9,
        "host": "box",
        "version": "1.2.3",
    }
    assert receiver.bodies[1]["text"] == "gemmad on box: over: gpu0 uses 85% of KV pages."
    assert receiver.headers[0]["content-type"] == "application/json"
    assert receiver.headers[0]["user-agent"] == "gemmad/1.2.3"


def test_nobody_to_post_to() -> None:
    """Without a URL nothing is kept for later."""
    hook = webhook(None)
    hook.post(change())
    assert hook._queue.empty()


def test_a_broken_receiver_is_tried_again() -> None:
    """What a server fails at comes again, once it works only once."""
    with receiving() as receiver:
        receiver.statuses = [500, 429]
        posting(webhook(receiver.url), lambda: len(receiver.bodies) == 4, change(), change("vram"))
    assert [body["about"] for body in receiver.bodies] == ["kv", "kv", "kv", "vram"]


def test_it_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """After a few tries the next alert has its turn, and the log names the host and nothing of the URL's path."""
    with receiving() as receiver:
        receiver.statuses = [503] * 3
        posting(webhook(receiver.url), lambda: len(receiver.bodies) == 4, change(), change("vram"))
    assert [body["about"] for body in receiver.bodies] == ["kv"] * 3 + ["vram"]
    (line,) = said(caplog)
    assert (line["event"], line["reason"], line["to"]) == ("alert not posted", "HTTP 503", "127.0.0.1")
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("status", [302, 307, 404])
def test_what_will_never_work(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal is final, and a redirection is followed nowhere: the alert is for the one who was named."""
    with receiving() as receiver:
        receiver.statuses = [status]
        posting(webhook(receiver.url), lambda: len(receiver.bodies) == 2, change(), change("vram"))
    assert receiver.paths == [SECRET, SECRET]
    assert [line["reason"] for line in said(caplog)] == [f"HTTP {status}"]


def test_a_slow_receiver(caplog: pytest.LogCaptureFixture) -> None:
    """One that does not answer in time is given up, and handing alerts over never waits for it."""
    with receiving() as receiver:
        receiver.hang.clear()
        hook = webhook(receiver.url, timeout=0.1, pauses=())
        posting(hook, lambda: bool(said(caplog)), change())
    assert said(caplog)[0]["reason"] == "no answer within 0.1 s"


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """A port that refuses is told once all tries are over."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}{SECRET}"
        posting(webhook(url), lambda: bool(said(caplog)), change())
    assert said(caplog)[0]["reason"] == "ConnectError"
    assert "SECRET" not in caplog.text


def test_too_many_wait(caplog: pytest.LogCaptureFixture) -> None:
    """While a receiver hangs only so many alerts are kept."""
    hook = webhook("http://127.0.0.1:9/")
    for _ in range(QUEUE_LIMIT + 2):
        hook.post(change())
    assert hook._queue.qsize() == QUEUE_LIMIT
    assert [line["reason"] for line in said(caplog)] == ["too many wait"] * 2
