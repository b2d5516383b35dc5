from __future__ import annotations

from pathlib import Path

from gemmad.config.keyring import Holder, parse_keyring
from tests.unit.cli.conftest import Command


def test_a_new_key(gemmad: Command, config_dir: Path) -> None:
    """The key and its line are two lines of output, for scripts; what to do with them is said beside."""
    (config_dir / "gemmad.toml").write_text("[auth]\napi_keys_file = 'who'\n")
    said = gemmad("keys", "new", "--name", "alice")
    key, line = said.stdout.splitlines()
    assert said.exit_code == 0
    assert parse_keyring(line.encode(), path=Path("who")).find(key) == Holder("alice")
    assert key not in line + said.stderr
    assert f"to be added to {config_dir}/who:" in said.stderr


def test_new_keys_differ(gemmad: Command) -> None:
    """No two keys are the same, and a name is not needed."""
    first, second = (gemmad("keys", "new").stdout.splitlines() for _ in range(2))
    assert first[0] != second[0]
    assert second[1].startswith("sha256:")


def test_an_impossible_name(gemmad: Command) -> None:
    """A name that no line could have makes no key."""
    said = gemmad("keys", "new", "--name", "a:b")
    assert (said.exit_code, said.stdout) == (2, "")
    assert "--name: a name has" in said.stderr


def test_check_looks_at_the_keys(gemmad: Command, config_dir: Path) -> None:
    """`gemmad config check` tells mistakes in the file of keys, and an address that is open without one."""
    (config_dir / "who").write_text("alice:short\n")
    (config_dir / "gemmad.toml").write_text("[auth]\napi_keys_file = 'who'\n")
    said = gemmad("config", "check")
    assert said.exit_code == 78
    assert f"{config_dir}/who:1: a key has at least" in said.stderr
    (config_dir / "gemmad.toml").write_text("[server]\nhost = '0.0.0.0'\n")
    said = gemmad("config", "check")
    assert said.exit_code == 78
    assert "no API key is set" in said.stderr
