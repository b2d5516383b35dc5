from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gemmad.cli.completion import SHELLS, script
from tests.unit.cli.conftest import Command


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts(gemmad: Command, shell: str) -> None:
    """Each shell gets a script that asks `gemmad` for what fits."""
    said = gemmad("completion", shell)
    assert said.exit_code == 0
    assert f"_GEMMAD_COMPLETE=complete_{shell}" in said.stdout


def test_another_shell(gemmad: Command) -> None:
    """A shell that is none is a mistake of the caller."""
    assert gemmad("completion", "cmd").exit_code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
@pytest.mark.parametrize(
    ("typed", "offered"), [("gemmad wa", {"wait"}), ("gemmad config s", {"show"}), ("gemmad wait --r", {"--ready"})]
)
def test_bash_completes(tmp_path: Path, typed: str, offered: set[str]) -> None:
    """In bash the script offers verbs, verbs of a group, and options."""
    command = tmp_path / "gemmad"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m gemmad "$@"\n')
    command.chmod(0o755)
    words = typed.split()
    lines = [
        script("bash"),
        f"COMP_WORDS=({typed})",
        f"COMP_CWORD={len(words) - 1}",
        "_gemmad_completion gemmad",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run(["bash", "-c", "\n".join(lines)], env=env, capture_output=True, text=True, check=True)
    assert offered <= set(result.stdout.split())
    assert all(word.startswith(words[-1]) for word in result.stdout.split())
