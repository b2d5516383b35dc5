"""What `gemmad service` would write, and whom it refuses; tests/system installs it for real."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from gemmad.cli.service import status_code
from gemmad.cli.service_files import (
    hidden_from_the_system,
    own_command,
    quoted,
    shipped,
    system_files,
    user_files,
    with_command,
)
from tests.unit.cli.conftest import Command


def starts(unit: str) -> list[str]:
    return re.findall(r"^Exec\w+=.*$", unit, re.MULTILINE)


def test_a_units_command() -> None:
    """The shipped units run what was installed, with its options where it serves."""
    command = ("/opt/gemmad/bin/gemmad",)
    for name in ("gemmad.service", "gemmad-user.service"):
        assert starts(with_command(shipped(name), command, ["--demo"])) == [
            "ExecStart=/opt/gemmad/bin/gemmad serve --demo",
            "ExecReload=/opt/gemmad/bin/gemmad reload",
        ]


@pytest.mark.parametrize(
    ("word", "told"),
    [("/opt/gemmad", "/opt/gemmad"), ("/my folder/50%/$x", '"/my folder/50%%/$$x"'), ('a"b', '"a\\"b"')],
)
def test_words_of_a_command(word: str, told: str) -> None:
    """Blanks, quotes, % and $ mean what they are."""
    assert quoted(word) == told


def test_the_files() -> None:
    """The system's service brings its user, folders, sockets and devices; a user's is one unit in their own folder."""
    paths = [str(file.path) for file in system_files(["/usr/bin/gemmad"])]
    assert paths == [
        "/etc/systemd/system/gemmad.service",
        "/etc/systemd/system/gemmad.socket",
        "/etc/systemd/system/gemmad-devices.service",
        "/etc/sysusers.d/gemmad.conf",
        "/etc/tmpfiles.d/gemmad.conf",
    ]
    for env in ({"HOME": "/home/ada"}, {"HOME": "/x", "XDG_CONFIG_HOME": "/home/ada/.config"}):
        (file,) = user_files(["/usr/bin/gemmad"], [], env)
        assert str(file.path) == "/home/ada/.config/systemd/user/gemmad.service"


def test_what_the_system_cannot_see(tmp_path: Path) -> None:
    """Programs in home folders and /tmp are told, also behind a link; others are not."""
    (tmp_path / "link").symlink_to("/root/gemmad")
    assert hidden_from_the_system(["/opt/gemmad", "/usr/bin/python3"]) is None
    assert hidden_from_the_system(["/opt/gemmad", "/home/ada/.local/bin/gemmad"]) is not None
    assert hidden_from_the_system([tmp_path / "link"]) is not None
    assert hidden_from_the_system(["/homestead/gemmad"]) is None


def test_what_runs_this() -> None:
    """The installed command is named by its path, `python -m gemmad` by the interpreter's."""
    script = Path(sys.executable).with_name("gemmad")
    expected = (str(script),) if os.access(script, os.X_OK) else (sys.executable, "-m", "gemmad")
    assert own_command(str(script)) == expected
    assert own_command("/x/__main__.py") == (sys.executable, "-m", "gemmad")


def test_print_changes_nothing(gemmad: Command, config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--print shows the unit and writes none."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config_dir))
    said = gemmad("service", "install", "--user", "--print", "--demo")
    assert said.exit_code == 0
    assert said.stdout.startswith(f"# {config_dir}/systemd/user/gemmad.service\n")
    assert starts(said.stdout)[0].endswith(" serve --demo")
    assert not (config_dir / "systemd").exists()


def test_the_system_refuses_a_home_folder(gemmad: Command) -> None:
    """An installation that the system's service could not see is refused, with what to do instead."""
    if hidden_from_the_system([sys.executable, sys.prefix, sys.base_prefix]) is None:
        pytest.skip("this Python is not in a home folder")
    said = gemmad("service", "install")
    assert said.exit_code == 2
    assert "--user" in said.stderr


@pytest.mark.parametrize(
    ("load", "active", "code"),
    [
        ("loaded", "active", 0),
        ("loaded", "reloading", 0),
        ("loaded", "inactive", 3),
        ("loaded", "failed", 3),
        ("loaded", "activating", 3),
        ("not-found", "inactive", 4),
    ],
)
def test_the_status_of_the_service(load: str, active: str, code: int) -> None:
    """With --json the exit status is the one of `systemctl status`; without any word of systemd there is no unit."""
    assert status_code({"LoadState": load, "ActiveState": active}) == code
    assert status_code({}) == 4
