from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from gemmad.config.schema import Config
from tests.unit.cli.conftest import Command

BAD = "[server]\nport = 0\nprot = 1\n[logging]\nlevel = 'loud'\n"


def test_check_of_a_good_file(gemmad: Command, config_dir: Path) -> None:
    """A good file is ok, and its name is said."""
    (config_dir / "gemmad.toml").write_text("[server]\nport = 1\n")
    said = gemmad("config", "check")
    assert (said.exit_code, said.stdout) == (0, f"{config_dir}/gemmad.toml: ok\n")


def test_check_without_a_file(gemmad: Command) -> None:
    """No file is no error."""
    said = gemmad("config", "check")
    assert said.exit_code == 0
    assert "defaults" in said.stdout


def test_check_prints_every_error(gemmad: Command, tmp_path: Path) -> None:
    """A bad file leaves with 78 and all its errors, one line each, and no traceback."""
    path = tmp_path / "other.toml"
    path.write_text(BAD)
    said = gemmad("config", "check", "--config", str(path))
    assert said.exit_code == 78
    assert said.stdout == ""
    assert said.stderr.splitlines() == [
        "gemmad: 2 errors in the configuration:",
        f"  {path}:3: server.prot: unknown key; did you mean server.port?",
        f'  {path}:5: logging.level: expected "debug" or "info" or "warning" or "error", got \'loud\'',
    ]


def test_show_is_a_file(gemmad: Command, config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in force is printed as a file that says the same, with --origin who set what."""
    (config_dir / "gemmad.toml").write_text("[server]\nport = 1\n")
    monkeypatch.setenv("GEMMAD_SERVER__HOST", "h")
    shown = tomllib.loads(gemmad("config", "show").stdout)
    expected = Config.model_validate({"server": {"port": 1, "host": "h"}})
    assert Config.model_validate(shown) == expected
    lines = gemmad("config", "show", "--origin").stdout.splitlines()
    assert 'host = "h"  # environment' in lines
    assert "port = 1  # file" in lines


def test_show_as_json(gemmad: Command, config_dir: Path) -> None:
    """The same as JSON, for scripts."""
    assert json.loads(gemmad("config", "show", "--json").stdout)["server"]["port"] == 4363
    both = json.loads(gemmad("config", "show", "--json", "--origin").stdout)
    assert both["origins"]["server.port"] == "default"


def test_path(gemmad: Command, config_dir: Path) -> None:
    """The file that is read is named; without one, the places that were looked at."""
    said = gemmad("config", "path")
    assert (said.exit_code, said.stdout) == (1, "")
    assert str(config_dir / "gemmad.toml") in said.stderr
    (config_dir / "gemmad.toml").write_text("")
    said = gemmad("config", "path")
    assert (said.exit_code, said.stdout) == (0, f"{config_dir}/gemmad.toml\n")
