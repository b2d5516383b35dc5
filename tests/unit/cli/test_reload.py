"""`gemmad reload`: what it asks, says and leaves with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gemmad.api.overview import PendingSetting, Reload
from tests.unit.cli.conftest import Command
from tests.unit.cli.operated import PlayedSocket, played


@pytest.fixture
def control(config_dir: Path) -> Iterator[PlayedSocket]:
    """The daemon's end."""
    with played(config_dir / "run") as socket:
        yield socket


def outcome(control: PlayedSocket, **fields: object) -> None:
    control.body = msgspec.json.encode(msgspec.convert({"ok": True, "seconds_ago": 0.0, **fields}, Reload))


def test_applied(gemmad: Command, control: PlayedSocket) -> None:
    """Each key is told with when it is in force."""
    waiting = [PendingSetting("server.port", "restart")]
    outcome(control, applied=["dispatch.max_waiting"], rolling=["engine.dtype"], pending=waiting)
    said = gemmad("reload")
    assert said.exit_code == 0
    assert said.stdout.splitlines() == [
        "dispatch.max_waiting: in force at once",
        "engine.dtype: one worker tries it now (gemmad status), then in force with the others' next lives",
        "server.port: in force once the daemon is restarted",
    ]
    assert control.asked == ["POST /reload"]


def test_dry_run(gemmad: Command, control: PlayedSocket) -> None:
    """With --dry-run the daemon is asked to change nothing."""
    outcome(control, applied=["dispatch.max_waiting"], rolling=["engine.dtype"])
    assert gemmad("reload", "--dry-run").stdout.splitlines() == [
        "dispatch.max_waiting: would be in force at once",
        "engine.dtype: would be tried by one worker, then in force with the others' next lives",
    ]
    assert control.asked == ["POST /reload?dry_run=1"]


def test_unchanged(gemmad: Command, control: PlayedSocket) -> None:
    """A configuration like the running one is no error."""
    outcome(control)
    said = gemmad("reload")
    assert (said.exit_code, said.stdout) == (0, "nothing has changed\n")


def test_refused(gemmad: Command, control: PlayedSocket) -> None:
    """A wrong configuration leaves with 1, and every mistake is printed with its place."""
    outcome(control, ok=False, errors=["/etc/g.toml:3: a.b: no", "/etc/g.toml:4: a.c: no"])
    said = gemmad("reload")
    assert said.exit_code == 1
    assert said.stderr.splitlines()[1:] == ["  /etc/g.toml:3: a.b: no", "  /etc/g.toml:4: a.c: no"]


@pytest.mark.parametrize(("status", "code"), [(403, 4), (500, 1)])
def test_no_answer(gemmad: Command, control: PlayedSocket, status: int, code: int) -> None:
    """Who may not, or whose daemon fails, is told so."""
    control.refuse(status, "because")
    said = gemmad("reload")
    assert (said.exit_code, said.stderr) == (code, "gemmad: because\n")


def test_not_running(gemmad: Command) -> None:
    """Without a daemon it leaves with 3."""
    assert gemmad("reload").exit_code == 3
