"""What tells an upgrade from none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gemmad.supervisor.installed import installed_code


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small one."""
    (tmp_path / "ours" / "room").mkdir(parents=True)
    for name in ("__init__.py", "room/one.py", "room/two.py"):
        (tmp_path / "ours" / name).write_text("")
    return tmp_path / "ours"


def test_code_that_is_left_alone_is_the_same(package: Path) -> None:
    """Looking changes nothing, nor does what is no code."""
    before = installed_code(package, library="msgspec")
    (package / "room" / "notes.txt").write_text("new")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "one.pyc").write_bytes(b"")
    assert installed_code(package, library="msgspec") == before
    assert before.modules == 3
    assert before.beside > 0


def test_a_module_that_is_written_taken_away_or_added_changes_it(package: Path) -> None:
    """Each of them is another state of the code."""
    states = [installed_code(package, library="msgspec")]
    os.utime(package / "room" / "one.py", ns=(0, states[0].newest + 1))
    states.append(installed_code(package, library="msgspec"))
    (package / "room" / "two.py").unlink()
    states.append(installed_code(package, library="msgspec"))
    (package / "three.py").write_text("")
    os.utime(package / "three.py", ns=(0, 0))
    (package / "four.py").write_text("")
    os.utime(package / "four.py", ns=(0, 0))
    states.append(installed_code(package, library="msgspec"))
    assert len(set(states)) == 4


def test_a_library_that_is_upgraded_changes_it(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installer leaves a trace in the folder that holds the packages; a library that is missing is no error."""
    site = tmp_path / "site"
    (site / "somelibrary").mkdir(parents=True)
    (site / "somelibrary" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(site))
    before = installed_code(package, library="somelibrary")
    os.utime(site, ns=(0, before.beside + 1))
    assert installed_code(package, library="somelibrary") != before
    assert installed_code(package, library="nosuchlibrary").beside == 0
