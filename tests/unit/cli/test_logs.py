from __future__ import annotations

import pytest

from gemmad.cli.logs import Unit, journal_command, unit_in
from tests.unit.cli.conftest import Command

USERS_OWN = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/gemmad.service\n", Unit("gemmad.service", False)),
        ("0::/system.slice/gemmad.service/daemon\n", Unit("gemmad.service", False)),
        (f"0::{USERS_OWN}/app.slice/gemmad.service\n", Unit("gemmad.service", True)),
        (f"0::{USERS_OWN}/app.slice/my-llm.service/daemon\n", Unit("my-llm.service", True)),
        (f"0::{USERS_OWN}/app.slice/app-term.service/tab-1.scope\n", None),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("12:memory:/docker/abc\n1:name=systemd:/system.slice/gemmad.service\n0::/\n", Unit("gemmad.service", False)),
        ("0::/\n", None),
        ("", None),
    ],
)
def test_which_unit(cgroup: str, unit: Unit | None) -> None:
    """A process is in the innermost service of its control group, the system's or a user's; a terminal is none."""
    assert unit_in(cgroup) == unit


def test_the_journals_command() -> None:
    """journalctl shows the unit's own lines, as many as asked for, and follows or returns."""
    system, user = Unit("gemmad.service", False), Unit("gemmad.service", True)
    assert journal_command(system, lines=5, follow=True, since=None, as_json=False) == [
        *("journalctl", "--unit=gemmad.service", "--lines=5", "--output=cat", "--follow")
    ]
    told = journal_command(user, lines=100, follow=False, since="10 min ago", as_json=True)
    assert told[:4] == ["journalctl", "--user-unit=gemmad.service", "--lines=100", "--output=json"]
    assert told[-1] == "--since=10 min ago"
    assert "--follow" not in told


def test_nothing_runs(gemmad: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a daemon and without systemd there is no log to show."""
    monkeypatch.setenv("PATH", "/nowhere")
    said = gemmad("logs")
    assert (said.exit_code, said.stderr) == (3, "gemmad: no daemon is running, and no service is installed\n")
