from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import Struct
from typer.testing import CliRunner

from gemmad.cli.main import app


class Said(Struct, frozen=True):
    """What a command said, and how it left."""

    exit_code: int
    stdout: str
    stderr: str


Command = Callable[..., Said]


@pytest.fixture
def config_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that a config is looked for in."""
    for name in os.environ:
        if name.startswith(("GEMMAD_", "CONFIGURATION_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GEMMAD_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("GEMMAD_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


@pytest.fixture
def gemmad(config_dir: Path) -> Command:
    """Run `gemmad ARGUMENTS…` in this process."""

    def run(*arguments: str) -> Said:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False, prog_name="gemmad")
        return Said(result.exit_code, result.stdout, result.stderr)

    return run
