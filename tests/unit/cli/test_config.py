from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gemmad.api.overview import ConfigDiff, SettingDiff
from gemmad.config.schema import Config
from tests.unit.cli.conftest import Command
from tests.unit.cli.operated import PlayedSocket, played

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
    assert f"port = 1  # file {config_dir}/gemmad.toml:2" in lines


def test_show_as_json(gemmad: Command, config_dir: Path) -> None:
    """The same as JSON, for scripts."""
    assert json.loads(gemmad("config", "show", "--json").stdout)["server"]["port"] == 4363
    both = json.loads(gemmad("config", "show", "--json", "--origin").stdout)
    assert both["origins"]["server.port"] == "default"
    assert both["places"] == {}


def test_path(gemmad: Command, config_dir: Path) -> None:
    """The file that is read is named; without one, the places that were looked at."""
    said = gemmad("config", "path")
    assert (said.exit_code, said.stdout) == (1, "")
    assert str(config_dir / "gemmad.toml") in said.stderr
    (config_dir / "gemmad.toml").write_text("")
    said = gemmad("config", "path")
    assert (said.exit_code, said.stdout) == (0, f"{config_dir}/gemmad.toml\n")


def test_check_as_json(gemmad: Command, config_dir: Path) -> None:
    """As JSON a check is the file and its errors; the exit status is the same."""
    file = config_dir / "gemmad.toml"
    file.write_text("[server]\nport = 8000\n")
    said = gemmad("config", "check", "--json")
    assert (said.exit_code, json.loads(said.stdout)) == (0, {"path": str(file), "errors": []})
    file.write_text("[server]\nport = 'x'\nprot = 1\n")
    said = gemmad("config", "check", "--json")
    assert said.exit_code == 78
    assert len(json.loads(said.stdout)["errors"]) == 2


def test_path_as_json(gemmad: Command, config_dir: Path) -> None:
    """As JSON the path comes with the places that were looked at, whether there is a file or not."""
    assert json.loads(gemmad("config", "path", "--json").stdout)["path"] is None
    (config_dir / "gemmad.toml").touch()
    said = gemmad("config", "path", "--json")
    assert (said.exit_code, json.loads(said.stdout)["path"]) == (0, str(config_dir / "gemmad.toml"))


def test_files_beside_the_file(gemmad: Command, config_dir: Path) -> None:
    """What conf.d says is shown with its place, and its mistakes are told with those of the file."""
    main, more = config_dir / "gemmad.toml", config_dir / "conf.d" / "10-port.toml"
    more.parent.mkdir()
    main.write_text("[server]\nport = 1\n")
    more.write_text("[server]\nport = 2\n")
    assert f"port = 2  # file {more}:2" in gemmad("config", "show", "--origin").stdout.splitlines()
    main.write_text("[server]\nprot = 1\n")
    more.write_text("[server]\nhots = 2\n")
    said = gemmad("config", "check")
    assert said.exit_code == 78
    assert said.stderr.splitlines()[1:] == [
        f"  {main}:2: server.prot: unknown key; did you mean server.port?",
        f"  {more}:2: server.hots: unknown key; did you mean server.host?",
    ]


def test_schema(gemmad: Command) -> None:
    """The JSON Schema is one, and knows the sections."""
    shown = json.loads(gemmad("config", "schema").stdout)
    assert {"server", "engine", "recycle"} <= set(shown["properties"])


def test_example(gemmad: Command, config_dir: Path) -> None:
    """The example is a file that is right and says nothing."""
    (config_dir / "gemmad.toml").write_text(gemmad("config", "example").stdout)
    assert gemmad("config", "check").exit_code == 0
    assert "default" in gemmad("config", "show", "--origin").stdout


@pytest.fixture
def control(config_dir: Path) -> Iterator[PlayedSocket]:
    """The daemon's end."""
    with played(config_dir / "run") as socket:
        yield socket


def test_diff(gemmad: Command, control: PlayedSocket) -> None:
    """Each setting is told as it is, as it is wanted, and with when that would be."""
    settings = (
        SettingDiff("server.port", "1", "2", "restart"),
        SettingDiff("memory.kv_bytes", None, "65536", "trying"),
    )
    control.body = msgspec.json.encode(ConfigDiff(settings))
    said = gemmad("config", "diff")
    assert said.exit_code == 0
    assert said.stdout.splitlines() == [
        "server.port: 1 -> 2  # once the daemon is started anew",
        "memory.kv_bytes: not set -> 65536  # a worker tries it now",
    ]
    assert json.loads(gemmad("config", "diff", "--json").stdout)["settings"][0]["wanted"] == "2"
    assert control.asked == ["GET /config/diff"] * 2


def test_diff_of_nothing_and_of_mistakes(gemmad: Command, control: PlayedSocket) -> None:
    """No difference is said in words; files that are wrong leave with 78 and every mistake."""
    control.body = msgspec.json.encode(ConfigDiff())
    assert gemmad("config", "diff").stdout == "the daemon has what the files say\n"
    control.body = msgspec.json.encode(ConfigDiff((), ("/etc/g.toml:3: a.b: no",)))
    said = gemmad("config", "diff")
    assert (said.exit_code, said.stderr) == (78, "gemmad: /etc/g.toml:3: a.b: no\n")


def test_diff_without_a_daemon(gemmad: Command) -> None:
    """It leaves with 3."""
    assert gemmad("config", "diff").exit_code == 3
