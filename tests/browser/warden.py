"""What whoever runs the daemon may do besides looking at pages: over its control socket."""

from __future__ import annotations

import http.client
import json
from typing import Any

import msgspec

from gemmad.api.overview import Overview, RequestList, WorkerOverview
from gemmad.cli.health import UnixConnection
from gemmad.dispatch.listing import Listed
from gemmad.supervisor.lifecycle import State
from tests.process.daemon import PATIENCE_SECONDS, DaemonProcess


def ask(daemon: DaemonProcess, method: str, path: str) -> bytes:
    """What the control socket answers; it must be a success."""
    connection = UnixConnection(daemon.folder / "runtime" / "control.sock", PATIENCE_SECONDS)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    assert response.status == http.client.OK, body
    return body


def session(daemon: DaemonProcess) -> str:
    """The dashboard's address for somebody who may act, as `gemmad dashboard` opens it."""
    told: dict[str, Any] = json.loads(ask(daemon, "POST", "/dashboard/token"))
    return f"{told['url']}/#token={told['token']}"


def see(daemon: DaemonProcess) -> Overview:
    """The daemon as it is now."""
    return msgspec.json.decode(ask(daemon, "GET", "/status"), type=Overview)


def worker(daemon: DaemonProcess, name: str) -> WorkerOverview:
    """One of its workers."""
    return next(each for each in see(daemon).workers if each.name == name)


def requests(daemon: DaemonProcess) -> tuple[Listed, ...]:
    """What waits and runs."""
    return msgspec.json.decode(ask(daemon, "GET", "/requests"), type=RequestList).requests


def wait_all_ready(daemon: DaemonProcess) -> Overview:
    """Return once every worker serves, and nothing is left of earlier lives."""

    def calm() -> bool:
        return all(each.state == State.READY.value and not each.recycling for each in see(daemon).workers)

    daemon.wait_until(lambda: (daemon.folder / "runtime" / "control.sock").exists() and calm())
    return see(daemon)
