"""The clients that are Node packages: the official SDK and Vercel's. Their own checks are beside package.json."""

from __future__ import annotations

import os
import subprocess

import pytest
from daemon import ROOT

FOLDER = ROOT / "tests" / "clients_suite" / "node"


@pytest.mark.parametrize("name", ["check_openai.mjs", "check_ai_sdk.mjs"])
def test_node(url: str, name: str) -> None:
    """All checks of the file pass."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "GEMMAD_CLIENTS_URL": url}
    done = subprocess.run(
        ["node", "--test", name], cwd=FOLDER, env=env, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout
