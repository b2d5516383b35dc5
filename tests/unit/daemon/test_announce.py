from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from gemmad.config.paths import find_paths
from gemmad.daemon.announce import address_file, announce, are_heard, print_hints, status_words
from gemmad.daemon.notify import Notifier
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.wishes import WorkerStatus


def told(path: Path, states: list[str], env: dict[str, str]) -> tuple[list[str], int]:
    """What a service manager hears while the daemon goes through the states, and how often it was ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)
        ready = []
        coming = iter(states)
        done = asyncio.Event()

        def state() -> str:
            now = next(coming, "")
            if not now:
                done.set()
            return now or states[-1]

        async def follow() -> None:
            notifier = Notifier({"NOTIFY_SOCKET": str(path), **env})
            task = asyncio.create_task(
                announce(
                    state,
                    notifier,
                    on_ready=lambda: ready.append(True),
                    remedy=lambda: "`gemmad pull a/b`",
                    look_seconds=0.001,
                )
            )
            await done.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(follow())
        heard = []
        try:
            while True:
                heard.append(manager.recv(4096).decode())
        except BlockingIOError:
            return heard, len(ready)


def test_what_the_service_manager_hears(tmp_path: Path) -> None:
    """Patience while it loads, READY once a worker serves, then each change of state; ready is told once."""
    heard, ready = told(tmp_path / "notify", ["loading", "loading", "ready", "recovering", "ready"], {})
    assert heard == [
        "STATUS=loading",
        "EXTEND_TIMEOUT_USEC=30000000",
        "READY=1\nSTATUS=serving",
        "STATUS=recovering",
        "STATUS=serving",
    ]
    assert ready == 1


def test_a_service_without_its_model_is_up(tmp_path: Path) -> None:
    """READY is told as well once it is known that the model is not there, with what mends it; serving comes later."""
    heard, ready = told(tmp_path / "notify", ["loading", "no_model", "no_model", "loading", "ready"], {})
    assert [words for words in heard if not words.startswith("EXTEND")] == [
        "STATUS=loading",
        "READY=1\nSTATUS=no model: `gemmad pull a/b`",
        "STATUS=loading",
        "READY=1\nSTATUS=serving",
    ]
    assert ready == 1


def test_the_watchdog(tmp_path: Path) -> None:
    """A manager that watches hears a sign of life at every look."""
    heard, _ = told(tmp_path / "notify", ["ready", "ready", "ready"], {"WATCHDOG_USEC": "30000000"})
    assert heard.count("WATCHDOG=1") >= 3


def worker(state: State, **fields: Any) -> WorkerStatus:
    """One in this state, with nothing else to tell."""
    empty = {"device": "cpu", "life": 1, "pid": 1, "stage": None, "fraction": None, "since": 0.0, "retry_at": None}
    empty |= {"faults": 0.0, "last_error": None, "load": None, "capacity": None, "name": "cpu0"}
    return WorkerStatus(**{**empty, "state": state, **fields})


def test_status_words() -> None:
    """The manager is told how many workers serve, how far the others are, and why none will come."""
    ready, loading = worker(State.READY), worker(State.STARTING, name="cpu1", stage="weights", fraction=0.57)
    assert status_words("loading", ()) == "loading"
    assert status_words("loading", [loading]) == "loading; loading cpu1 weights 50%"
    assert status_words("ready", [ready]) == "serving, 1 of 1 workers ready"
    assert status_words("ready", [ready, loading]) == "serving, 1 of 2 workers ready; loading cpu1 weights 50%"
    assert status_words("failed", [worker(State.FAILED, last_error="no memory")]) == "failed; cpu0: no memory"


@pytest.mark.parametrize(
    ("state", "heard_at", "heard"),
    [
        (State.READY, 95.0, True),
        (State.READY, 80.0, False),
        (State.DRAINING, 80.0, False),
        (State.STARTING, 0.0, True),
        (State.KILLING, 0.0, True),
        (State.READY, None, True),
    ],
)
def test_who_has_to_be_heard(state: State, heard_at: float | None, heard: bool) -> None:
    """A worker that serves and has not spoken for long keeps the watchdog from being told that all is well; one whose
    silence has its own deadline does not."""
    assert are_heard([worker(state, heard_at=heard_at)], now=100.0, silence_seconds=20.0) is heard


def test_the_address_file(tmp_path: Path) -> None:
    """The file has the URL as long as the daemon listens; a folder that cannot be made is no reason not to."""
    paths = find_paths({"GEMMAD_RUNTIME_DIR": str(tmp_path / "run")}, uid=1)
    with address_file(paths, "http://127.0.0.1:1") as path:
        assert path is not None
        assert path.read_text() == "http://127.0.0.1:1\n"
    assert not path.exists()
    (tmp_path / "file").write_text("")
    with address_file(find_paths({"GEMMAD_RUNTIME_DIR": str(tmp_path / "file")}, uid=1), "http://x") as path:
        assert path is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:4363", "unix:/run/gemmad/api.sock"])
def test_hints(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The hints have commands that can be pasted, for a Unix socket too."""
    print_hints(url, model="gemma")
    hints = capsys.readouterr().err
    assert '"model": "gemma"' in hints
    assert ("--unix-socket /run/gemmad/api.sock http://gemmad/v1" in hints) == url.startswith("unix:")
    assert "unix:" not in hints
