"""The dashboard of a real daemon: a session from the command line, and what can be seen and done with it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai import APIError

from gemmad.api.dashboard.snapshot import Snapshot
from gemmad.config.keyring import key_line
from tests.fakes.worker import Behaviour
from tests.process.daemon import MODEL, PATIENCE_SECONDS, DaemonProcess, start_fake
from tests.process.test_control import gemmad

HI: Any = [{"role": "user", "content": "Hi"}]
ADMIN = "sk-the-operators-own-key"


def begin_session(daemon: DaemonProcess) -> str:
    """As `gemmad dashboard` does; the token."""
    said = gemmad(daemon, "dashboard", "--json")
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert told["address"] == f"{daemon.url}/#token={told['token']}"
    return str(told["token"])


def call(daemon: DaemonProcess, method: str, path: str, *, key: str = "") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Listening:
    """One who listens. Use it in `with`."""

    def __init__(self, daemon: DaemonProcess, *, key: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE_SECONDS)
        self._connection.request("GET", "/dashboard/events", headers={"Authorization": f"Bearer {key}"} if key else {})
        self._response = self._connection.getresponse()
        assert self._response.status == http.client.OK

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()

    def snapshots(self) -> Iterator[Snapshot]:
        """Until the stream ends."""
        name = ""
        for line in self._response:
            field, _, value = line.decode().strip().partition(": ")
            if field == "event":
                name = value
            elif field == "data" and name == "snapshot":
                yield msgspec.json.decode(value, type=Snapshot)

    def until(self, condition: Callable[[Snapshot], bool]) -> list[Snapshot]:
        """All up to the first of which it holds."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        seen = []
        for snapshot in self.snapshots():
            seen.append(snapshot)
            if condition(snapshot):
                return seen
            assert time.monotonic() < give_up, f"it did not come to that: {snapshot}"
        raise AssertionError("the stream has ended")


def test_a_worker_is_recycled_from_the_dashboard(tmp_path: Path) -> None:
    """A session lets its holder recycle; who listens sees the next life, and in the log who has asked for it."""
    with start_fake(tmp_path, Behaviour(load_seconds=0.2)) as daemon:
        daemon.wait_ready()
        assert call(daemon, "POST", "/dashboard/workers/all/recycle")[0] == 403
        token = begin_session(daemon)
        with Listening(daemon) as visitor, Listening(daemon, key=token) as operator:
            assert operator.until(lambda snapshot: snapshot.may_act)[0].overview.workers[0].life == 1
            status, asked = call(daemon, "POST", "/dashboard/workers/cpu0/recycle", key=token)
            assert status == 200
            assert asked["workers"][0]["recycling"]
            seen = visitor.until(lambda snapshot: _life(snapshot) == (2, "ready"))
            assert not any(snapshot.may_act for snapshot in seen)
            lines = [line for snapshot in seen for line in snapshot.log]
        (line,) = [line for line in lines if line.event == "operator asks"]
        assert (line.fields["verb"], line.fields["worker"]) == ("recycle", "cpu0")
        (began,) = daemon.events("dashboard session begins")
        assert line.fields["session"] == began["session"]
        assert [line.number for line in lines] == list(range(lines[0].number, lines[-1].number + 1))
        assert token not in daemon.log


def test_a_request_is_cancelled_from_the_dashboard(tmp_path: Path) -> None:
    """Whoever listens sees a request and how far it is; one who has a session ends it."""
    with start_fake(tmp_path, Behaviour(step_seconds=0.02)) as daemon:
        daemon.wait_ready()
        token = begin_session(daemon)
        failures: list[APIError] = []

        def read() -> None:
            with daemon.client() as client:
                stream = client.chat.completions.create(
                    model=MODEL, messages=HI, max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
                )
                try:
                    for _ in stream:
                        pass
                except APIError as error:
                    failures.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            with Listening(daemon) as visitor:
                *_, last = visitor.until(lambda snapshot: any(request.said_tokens for request in snapshot.requests))
                (request,) = last.requests
                status, _ = call(daemon, "POST", f"/dashboard/requests/{request.request_id}/cancel", key=token)
                assert status == 200
                visitor.until(lambda snapshot: not snapshot.requests)
        finally:
            thread.join(PATIENCE_SECONDS)
        assert [error.code for error in failures] == ["cancelled"]


def test_a_reload_and_the_settings_in_force(tmp_path: Path) -> None:
    """The page is told every setting as a file has it, what a reload would change, and what it did change; never a key,
    and of a webhook only whose it is."""
    folder = tmp_path / "config"
    folder.mkdir()
    keys, file = folder / "admins", folder / "gemmad.toml"
    keys.write_text(key_line(ADMIN, name="op"))
    file.write_text(
        f'[auth]\nadmin_keys_file = "{keys}"\n[monitor]\nwebhook = "https://hooks.example/T0/very-secret"\n'
    )
    with start_fake(tmp_path, server__port=0) as daemon:
        daemon.wait_until(daemon.address_file.exists)
        daemon.wait_until(lambda: call(daemon, "GET", "/health")[0] == 200)
        assert call(daemon, "GET", "/dashboard/config")[0] == 401
        status, told = call(daemon, "GET", "/dashboard/config", key=ADMIN)
        assert status == 200
        settings = {f"{setting['section']}.{setting['key']}": setting for setting in told["settings"]}
        assert (settings["server.port"]["value"], settings["server.port"]["default"]) == ("0", False)
        assert (settings["dispatch.max_waiting"]["default"], settings["server.uds"]["value"]) == (True, None)
        assert settings["auth.admin_keys_file"]["value"] == json.dumps(str(keys))
        assert settings["monitor.webhook"]["value"] == '"https://hooks.example/…"'
        file.write_text(file.read_text().replace("very-secret", "other-secret") + "[dispatch]\nmax_waiting = 7\n")
        assert call(daemon, "POST", "/dashboard/reload?dry_run=1", key=ADMIN)[0] == 200
        status, outcome = call(daemon, "POST", "/dashboard/reload", key=ADMIN)
        assert (status, outcome["ok"]) == (200, True)
        told = call(daemon, "GET", "/dashboard/config", key=ADMIN)[1]
        settings = {f"{setting['section']}.{setting['key']}": setting for setting in told["settings"]}
        assert settings["dispatch.max_waiting"]["value"] == "7"
        assert told["reload"]["ok"]
        everything = json.dumps([told, call(daemon, "GET", "/dashboard/snapshot", key=ADMIN)[1]]) + daemon.log
        for secret in (ADMIN, "very-secret", "other-secret", keys.read_text().rpartition(":")[2].strip()):
            assert secret not in everything
        assert daemon.events("operator asks")[-1]["key"] == "op"


@pytest.mark.parametrize("reads", [True, False])
def test_a_stop_does_not_wait_for_listeners(tmp_path: Path, reads: bool) -> None:
    """Streams end with the daemon; those who do not read theirs hold it up no longer than a flush may take."""
    with start_fake(tmp_path) as daemon:
        daemon.wait_ready()
        with Listening(daemon) as listening, socket.create_connection(("127.0.0.1", daemon.port)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            if not reads:
                deaf.sendall(b"GET /dashboard/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            listening.until(lambda snapshot: snapshot.overview.state == "ready")
            began = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began < (3.0 if reads else 8.0)
            assert list(listening.snapshots()) == []
        assert "Traceback" not in daemon.log


def _life(snapshot: Snapshot) -> tuple[int, str]:
    worker = snapshot.overview.workers[0]
    return worker.life, worker.state
