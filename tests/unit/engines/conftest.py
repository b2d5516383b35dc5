"""Interpreters that are scripts: they answer as Python would when it makes an environment, runs pip or is tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gemmad.engines.store import EngineStore

FACTS = {"torch": "2.13.0", "cuda": "13.0", "python": "3.12.1", "site": "/srv/site"}
_SCRIPT = """\
#!/bin/sh
case "$*" in
*"-m venv"*)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    ;;
*"-m pip"*)
    {pip}
    ;;
*gemmad.worker.probe*)
    {probe}
    ;;
esac
"""


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    """One with nothing in it."""
    return EngineStore(tmp_path / "engines")


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., Path]:
    """Makes an interpreter: what it does as pip, what it tells when it is tried, and with which status."""

    def make(*, pip: str = "true", status: int = 0, **facts: object) -> Path:
        script = tmp_path / "python"
        probe = f"echo noise; echo '{json.dumps(FACTS | facts)}'; exit {status}"
        script.write_text(_SCRIPT.format(pip=pip, probe=probe))
        script.chmod(0o755)
        return script

    return make
