"""`gemmad dashboard`: what it asks for, opens and prints."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemmad.cli.dashboard import door, has_display, reachable_url, tunnel_hint
from tests.unit.cli.conftest import Command
from tests.unit.cli.operated import PlayedSocket, played

SSH = {"SSH_CONNECTION": "192.0.2.9 51000 192.0.2.1 22"}
TOKEN = "gemmad-session-abc"
URL = "http://127.0.0.1:4363"
ADDRESS = f"{URL}/#token={TOKEN}"


@pytest.fixture
def control(config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedSocket]:
    """The daemon's end. There is no display."""
    for name in ("SSH_CONNECTION", "SSH_TTY", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with played(config_dir / "run") as socket:
        socket.body = json.dumps({"token": TOKEN, "url": URL}).encode()
        yield socket


def test_without_a_display(gemmad: Command, control: PlayedSocket) -> None:
    """The address is printed and nothing else."""
    said = gemmad("dashboard")
    assert (said.exit_code, said.stdout, said.stderr) == (0, f"{ADDRESS}\n", "")
    assert control.asked == ["POST /dashboard/token"]


def test_over_ssh(gemmad: Command, control: PlayedSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address alone is on standard output; how to get to it from elsewhere is beside it."""
    monkeypatch.setenv("SSH_CONNECTION", SSH["SSH_CONNECTION"])
    monkeypatch.setenv("DISPLAY", ":10")
    said = gemmad("dashboard")
    assert (said.exit_code, said.stdout) == (0, f"{ADDRESS}\n")
    assert "ssh -L 4363:127.0.0.1:4363 " in said.stderr
    assert said.stderr.strip().endswith("@192.0.2.1")


def test_a_browser(tmp_path: Path) -> None:
    """The browser is started with a file that leads to the address; the token is in no command's arguments."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/argument\ncp "${{1#file://}}" {tmp_path}/page\n')
    browser.chmod(0o755)
    script = "import sys; from gemmad.cli.dashboard import open_browser; open_browser(sys.argv[1], linger_seconds=0.0)"
    env = {**os.environ, "BROWSER": str(browser)}  # webbrowser reads it once in a process
    subprocess.run([sys.executable, "-c", script, ADDRESS], env=env, check=True, timeout=60)
    argument = (tmp_path / "argument").read_text().strip()
    assert TOKEN not in argument
    assert ADDRESS in (tmp_path / "page").read_text()
    assert not Path(argument.removeprefix("file://")).exists()


def test_no_browser_is_wanted(gemmad: Command, control: PlayedSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --no-browser the address is printed, display or not."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("BROWSER", "/bin/false")
    assert gemmad("dashboard", "--no-browser").stdout == f"{ADDRESS}\n"


def test_json(gemmad: Command, control: PlayedSocket) -> None:
    """--json has what a script needs."""
    said = gemmad("dashboard", "--json")
    assert json.loads(said.stdout) == {"token": TOKEN, "url": URL, "address": ADDRESS}


def test_no_access(gemmad: Command, control: PlayedSocket) -> None:
    """Who is no warden is told who is, and leaves with 4."""
    control.refuse(403, "Only root may do this.")
    said = gemmad("dashboard")
    assert (said.exit_code, said.stdout) == (4, "")
    assert "Only root may do this." in said.stderr


def test_nobody_is_there(gemmad: Command) -> None:
    """Without a daemon it leaves with 3."""
    assert gemmad("dashboard").exit_code == 3


def test_a_unix_socket(gemmad: Command, control: PlayedSocket) -> None:
    """Where no browser gets, none is opened."""
    control.body = json.dumps({"token": TOKEN, "url": "unix:/run/gemmad/api.sock"}).encode()
    said = gemmad("dashboard")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "unix:/run/gemmad/api.sock" in said.stderr


@pytest.mark.parametrize(
    ("url", "env", "reachable"),
    [
        (URL, {}, URL),
        (URL, SSH, URL),
        ("http://0.0.0.0:80", {}, "http://127.0.0.1:80"),
        ("http://[::]:80", {}, "http://[::1]:80"),
        ("http://0.0.0.0:80", SSH, "http://192.0.2.1:80"),
        ("http://0.0.0.0:80", {"SSH_CONNECTION": "::1 5 2001:db8::1 22"}, "http://[2001:db8::1]:80"),
        ("http://192.0.2.7:80", SSH, "http://192.0.2.7:80"),
        ("unix:/run/x", {}, None),
    ],
)
def test_what_can_be_opened(url: str, env: dict[str, str], reachable: str | None) -> None:
    """An address that is all addresses is the one that somebody has come to, else this machine's own."""
    assert reachable_url(url, env) == reachable


@pytest.mark.parametrize(
    ("url", "env", "hint"),
    [
        (URL, SSH, "ssh -L 4363:127.0.0.1:4363 me@192.0.2.1"),
        ("http://[::1]:80", SSH, "ssh -L 80:[::1]:80 me@192.0.2.1"),
        (URL, {}, None),
        (URL, {"SSH_CONNECTION": "odd"}, None),
        ("http://192.0.2.1:80", SSH, None),
        ("http://0.0.0.0:80", SSH, None),
    ],
)
def test_the_way_through_ssh(url: str, env: dict[str, str], hint: str | None) -> None:
    """What listens on loopback only needs a tunnel for whoever sits elsewhere, and nothing else does."""
    assert tunnel_hint(url, env, user="me") == hint


@pytest.mark.parametrize(
    ("env", "there"),
    [
        ({}, False),
        ({"DISPLAY": ""}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"DISPLAY": ":0", "SSH_TTY": "/dev/pts/1"}, False),
        ({"DISPLAY": ":10", **SSH}, False),
    ],
)
def test_displays(env: dict[str, str], there: bool) -> None:
    """A display that ssh forwards is not where its user's browser is."""
    assert has_display(env) is there


def test_the_door_is_ours_alone() -> None:
    """Nobody else can read the file that has the token, and it does not stay."""
    with door(ADDRESS) as file:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert ADDRESS in file.read_text()
    assert not file.exists()
