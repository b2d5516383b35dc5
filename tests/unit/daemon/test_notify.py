from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemmad.daemon.notify import Notifier


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)

    def heard(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    def heard_nothing(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(5)
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


@pytest.fixture
def notifier(manager: Manager, tmp_path: Path) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})


def test_what_is_said(manager: Manager, notifier: Notifier) -> None:
    """Each moment of the daemon's life is one datagram of the protocol's lines."""
    assert notifier.status("loading weights,\nhalf done")
    assert manager.heard() == ["STATUS=loading weights, half done"]
    assert notifier.extend_timeout(1.5)
    assert manager.heard() == ["EXTEND_TIMEOUT_USEC=1500000"]
    assert notifier.ready("serving")
    assert manager.heard() == ["READY=1", "STATUS=serving"]
    assert notifier.watchdog()
    assert manager.heard() == ["WATCHDOG=1"]
    assert notifier.stopping()
    assert manager.heard() == ["STOPPING=1"]


def test_a_reload_has_two_ends(manager: Manager, notifier: Notifier) -> None:
    """A reload says when it began and ends with READY=1, whatever came of it."""
    notifier.ready()
    manager.heard()
    notifier.reloading()
    first, second = manager.heard()
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()
    notifier.reloaded("config refused")
    assert manager.heard() == ["READY=1", "STATUS=config refused"]
    notifier.status("serving")
    assert manager.heard() == ["STATUS=serving; config refused"]


def test_a_reload_while_starting_does_not_claim_to_be_ready(manager: Manager, notifier: Notifier) -> None:
    """Before the daemon is ready, and once it stops, a reload only changes the status."""
    assert not notifier.reloading()
    assert manager.heard_nothing()
    notifier.reloaded("config reloaded")
    assert manager.heard() == ["STATUS=config reloaded"]
    notifier.ready()
    notifier.stopping()
    manager.heard()
    manager.heard()
    notifier.reloaded("config reloaded")
    assert manager.heard() == ["STATUS=config reloaded"]


def test_an_abstract_address(tmp_path: Path) -> None:
    """An address that begins with @ is in the abstract namespace."""
    manager = Manager(f"\0{tmp_path}")
    assert Notifier({"NOTIFY_SOCKET": f"@{tmp_path}"}).ready()
    assert manager.heard() == ["READY=1"]
    manager.socket.close()


@pytest.mark.parametrize("address", ["", "vsock:2:3", "relative/path", "/nonexistent/socket"])
def test_nobody_to_tell(address: str) -> None:
    """Without a manager that listens nothing is said and nothing is raised."""
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert not notifier.ready("x")
    assert not notifier.watchdog()


def test_a_manager_that_does_not_read(manager: Manager, notifier: Notifier) -> None:
    """A full socket costs a short wait and no more."""
    manager.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    said = [notifier.status("x" * 10_000)]
    while said[-1] and len(said) < 10_000:
        said.append(notifier.status("x" * 10_000))
    assert not said[-1]


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_interval(env: dict[str, str], seconds: float | None) -> None:
    """The interval is taken when it is meant for this process."""
    assert Notifier(env, pid=77).watchdog_seconds == seconds


def test_descriptors_are_kept(manager: Manager, notifier: Notifier, tmp_path: Path) -> None:
    """What is to be kept travels with its message, under its name; what is let go is named."""
    with (tmp_path / "file").open("w") as file:
        assert notifier.keep("gemmad-api", [file.fileno()])
        said, received, _, _ = socket.recv_fds(manager.socket, 1024, 4)
        assert said.decode().split("\n") == ["FDSTORE=1", "FDNAME=gemmad-api"]
        (kept,) = received
        assert os.path.samestat(os.fstat(kept), os.fstat(file.fileno()))
        os.close(kept)
    assert notifier.let_go("gemmad-api")
    assert manager.heard() == ["FDSTOREREMOVE=1", "FDNAME=gemmad-api"]
