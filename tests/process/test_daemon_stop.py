"""How the daemon ends."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError
from PIL import Image

from tests.fakes.media_pictures import data_url, saved
from tests.fakes.worker import Behaviour, Faults
from tests.process.daemon import MODEL, DaemonProcess, is_alive, start_fake

HI: Any = [{"role": "user", "content": "Hi"}]
SLOW = Behaviour(step_seconds=0.02)


class Talk:
    """A stream that is read in a thread."""

    def __init__(self, daemon: DaemonProcess, tokens: int, content: Any = "Hi") -> None:
        self.began = threading.Event()
        self.finish: str | None = None
        self.error: APIError | None = None
        self._daemon = daemon
        self._tokens = tokens
        self._messages: Any = [{"role": "user", "content": content}]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self.began.wait(20)

    def _run(self) -> None:
        body = {"ignore_eos": True}
        with self._daemon.client() as client:
            stream = client.chat.completions.create(
                model=MODEL, messages=self._messages, max_tokens=self._tokens, stream=True, extra_body=body
            )
            try:
                for chunk in stream:
                    self.began.set()
                    self.finish = chunk.choices[0].finish_reason
            except APIError as error:
                self.error = error
            except httpx.HTTPError:  # the daemon was killed
                pass

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_stops_at_once(fake_daemon: DaemonProcess, number: int) -> None:
    """With nobody connected, or only idle connections, a signal ends it at once and nothing is left."""
    children = fake_daemon.children()
    assert children
    with httpx.Client(base_url=fake_daemon.url) as idle:
        assert idle.get("/health").status_code == 200
        began = time.monotonic()
        fake_daemon.signal(number)
        assert fake_daemon.wait() == 0
    assert time.monotonic() - began < 2.0
    assert not any(is_alive(pid) for pid in children)
    assert not any(fake_daemon.address_file.parent.iterdir())
    assert fake_daemon.events("stopped")


def test_running_requests_finish(tmp_path: Path) -> None:
    """After SIGTERM running streams go on to their end, new requests are told to come back, then it stops."""
    with start_fake(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        talk = Talk(daemon, tokens=60)
        daemon.signal()
        daemon.wait_until(lambda: daemon.get("/health")[1]["status"] == "draining")
        refused = httpx.post(f"{daemon.base_url}/chat/completions", json={"model": MODEL, "messages": HI})
        assert refused.status_code == 503
        assert refused.json()["error"]["type"] == "service_unavailable_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        talk.join()
        assert (talk.finish, talk.error) == ("length", None)
        assert daemon.wait() == 0


def test_grace_ends(tmp_path: Path) -> None:
    """A stream that is not done in time ends with an error event, not as if it were complete."""
    with start_fake(tmp_path, SLOW, shutdown__grace=0.3) as daemon:
        daemon.wait_ready()
        talk = Talk(daemon, tokens=2000)
        began = time.monotonic()
        daemon.signal()
        talk.join()
        assert daemon.wait() == 0
        assert 0.2 < time.monotonic() - began < 5.0
    assert talk.finish is None
    assert talk.error is not None
    assert talk.error.code == "shutting_down"


def test_a_second_signal(tmp_path: Path) -> None:
    """A second signal stops at once, with a running stream and a worker that does not want to go."""
    faults = Faults(ignore_shutdown=True, ignore_sigterm=True)
    with start_fake(tmp_path, Behaviour(step_seconds=0.02, faults=faults)) as daemon:
        daemon.wait_ready()
        children = daemon.children()
        talk = Talk(daemon, tokens=2000)
        daemon.signal()
        daemon.wait_until(lambda: daemon.get("/health")[1]["status"] == "draining")
        began = time.monotonic()
        daemon.signal()
        assert daemon.wait() == 0
        assert time.monotonic() - began < 2.0
        talk.join()
        assert talk.finish is None
    assert not any(is_alive(pid) for pid in children)


def test_a_signal_while_it_loads(tmp_path: Path) -> None:
    """A daemon whose worker still loads stops as quickly."""
    with start_fake(tmp_path, Behaviour(load_seconds=30)) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: daemon.get("/health")[1] is not None)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 3.0


def test_a_killed_daemon_leaves_nothing(tmp_path: Path) -> None:
    """Even SIGKILL in the middle of streams with images leaves neither a process nor shared memory, and at once; what
    is left in the runtime folder the next daemon replaces, and then takes with it."""
    picture = {"type": "image_url", "image_url": {"url": data_url(saved(Image.new("RGB", (64, 64), "red"), "PNG"))}}
    content: Any = [{"type": "text", "text": "Hi"}, picture]
    with start_fake(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        children = daemon.children()
        talk = Talk(daemon, tokens=2000, content=content)
        daemon.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        while any(is_alive(pid) for pid in children):
            assert time.monotonic() - killed_at < 2.0
            time.sleep(0.005)
        assert daemon.wait() == -signal.SIGKILL
        talk.join()
        assert talk.finish is None
    assert {path.name for path in daemon.address_file.parent.iterdir()} <= {"address", "lock", "control.sock"}
    left = daemon.url
    with start_fake(tmp_path) as daemon:
        daemon.wait_until(lambda: daemon.url != left)
        daemon.wait_ready()
        assert daemon.stop() == 0
    assert not any(daemon.address_file.parent.iterdir())
