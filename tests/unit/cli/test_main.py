from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

from gemmad import __version__
from tests.unit.cli.conftest import Command


def test_version(gemmad: Command) -> None:
    """The version is the package's."""
    assert gemmad("version").stdout == f"gemmad {__version__}\n"


def test_version_as_json(gemmad: Command) -> None:
    """As JSON it has what a bug report needs."""
    facts = json.loads(gemmad("version", "--json").stdout)
    assert facts["gemmad"] == __version__ == metadata.version("gemmad")
    assert facts["torch"] == metadata.version("torch")
    assert facts["python"].startswith("3.")


def test_help_names_every_verb(gemmad: Command) -> None:
    """Help lists the verbs; no arguments at all is a call for help."""
    for arguments in (("--help",), ("-h",), ()):
        said = gemmad(*arguments)
        verbs = "serve health version config plan bench status drain resume recycle pull models rm"
        for verb in verbs.split():
            assert verb in said.stdout + said.stderr


def test_an_unknown_verb(gemmad: Command) -> None:
    """An unknown verb is a mistake of the caller."""
    assert gemmad("sevre").exit_code == 2


@pytest.mark.parametrize(
    "arguments", [["--help"], ["version"], ["serve", "--help"], ["chat", "--help"], ["completion", "zsh"]]
)
def test_quick_verbs_import_little(arguments: list[str]) -> None:
    """Help and version import neither the daemon nor the schema, so they answer at once."""
    script = f"""
import sys
from gemmad.cli.main import app
try:
    app({arguments!r})
except SystemExit:
    pass
print(sorted({{"gemmad.config.schema", "starlette", "structlog", "asyncio", "httpx", "torch"}} & sys.modules.keys()))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
