"""Which Python workers run in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gemmad.engines.install import add, module_command
from gemmad.engines.launch import PACKAGE
from gemmad.engines.store import EngineStore
from gemmad.supervisor.interpreter import WORKER, Interpreter

FAKE = """\
#!/bin/sh
echo '{"torch": "2", "cuda": null, "python": "3", "site": "/"}'
"""


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    """With `own-1`, which is not current."""
    store, python = EngineStore(tmp_path / "engines"), tmp_path / "python"
    python.write_text(FAKE)
    python.chmod(0o755)
    with store.changing():
        add(store, python)
    return store


def test_without_an_engine_it_is_our_own(store: EngineStore) -> None:
    """No engine is current: workers run in the daemon's own Python."""
    assert Interpreter(store, library="msgspec").command(WORKER) == (sys.executable, "-m", WORKER)


def test_the_current_engine_is_asked_for_anew(store: EngineStore) -> None:
    """A change of the engine holds from the next life on, and counts as a change of the code on disk."""
    interpreter = Interpreter(store, library="msgspec")
    before = interpreter.installed()
    store.use("own-1")
    command = interpreter.command(WORKER)
    assert command[0] == store.find("own-1").python
    assert command[-1] == WORKER
    assert interpreter.installed() != before
    store.use(None)
    assert interpreter.installed() == before


def test_without_torch_and_engine_it_says_what_to_do(store: EngineStore) -> None:
    """Nothing can run a worker: the error names the command that mends it."""
    with pytest.raises(OSError, match="gemmad engine install"):
        Interpreter(store, library="no_such_library").command(WORKER)


def test_a_broken_engine_is_not_passed_over(store: EngineStore, tmp_path: Path) -> None:
    """The current engine is gone: the error says so, although our own Python might do."""
    store.use("own-1")
    (tmp_path / "python").unlink()
    interpreter = Interpreter(store, library="msgspec")
    with pytest.raises(OSError, match="own-1 is broken"):
        interpreter.command(WORKER)
    assert "broken" in interpreter.installed().engine


def test_an_engine_runs_our_gemmad(tmp_path: Path) -> None:
    """Whatever gemmad an engine has itself, and whatever the folder it starts in has, the daemon's is imported."""
    (tmp_path / "gemmad").mkdir()
    (tmp_path / "gemmad" / "__init__.py").write_text("raise SystemExit('not this one')")
    command = module_command(sys.executable, "gemmad.engines.launch")
    # the launcher runs itself, which then runs a module that prints its usage
    done = subprocess.run(
        [*command, "gemmad.worker", "--help"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: gemmad.worker")
    assert PACKAGE.name == "gemmad"
