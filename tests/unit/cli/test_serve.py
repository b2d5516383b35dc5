from __future__ import annotations

from pathlib import Path

from tests.unit.cli.conftest import Command


def test_without_a_model(gemmad: Command, config_dir: Path) -> None:
    """Without a model the command leaves with 78 and names the ways to have one."""
    said = gemmad("serve")
    assert said.exit_code == 78
    assert "gemmad serve --demo" in said.stderr
    assert "gemmad pull google/" in said.stderr
    assert "gemmad serve --model google/" in said.stderr
    assert str(config_dir / "gemmad.toml") in said.stderr


def test_bad_settings(gemmad: Command, config_dir: Path) -> None:
    """Bad settings of all sources leave with 78 and all the errors, before anything starts."""
    (config_dir / "gemmad.toml").write_text("[sampling]\ntop_p = 2\n")
    said = gemmad("serve", "--demo", "--port", "99999", "--log-level", "loud", "--device", "tpu")
    assert said.exit_code == 78
    assert said.stderr.splitlines()[0] == "gemmad: 4 errors in the configuration:"
    for key in ("server.port", "logging.level", "engine.device", "sampling.top_p"):
        assert key in said.stderr


def test_a_file_that_is_not_there(gemmad: Command) -> None:
    """A named file that does not exist is an error, not the defaults."""
    said = gemmad("serve", "--demo", "--config", "/nonexistent.toml")
    assert said.exit_code == 78
    assert said.stderr == "gemmad: /nonexistent.toml: cannot be read: No such file or directory\n"


def test_demo_and_model(gemmad: Command) -> None:
    """The bundled model and another one exclude each other."""
    said = gemmad("serve", "--demo", "--model", "/m")
    assert said.exit_code == 2
    assert "exclude" in said.stderr
