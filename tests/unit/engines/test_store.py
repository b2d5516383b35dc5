"""The folder of engines."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gemmad.engines.install import add
from gemmad.engines.store import CURRENT, EngineError, EngineStore

Python = Callable[..., Path]


@pytest.fixture
def two(store: EngineStore, python: Python) -> EngineStore:
    """With `own-1` and `own-2`."""
    with store.changing():
        add(store, python())
        add(store, python())
    return store


def test_nothing_is_current_at_first(store: EngineStore) -> None:
    """A folder that does not exist has no engines, no current one and none to go back to."""
    assert store.engines() == ()
    assert store.current() is None
    with pytest.raises(EngineError, match="no engine was in use before"):
        store.roll_back()


def test_an_engine_is_used_and_rolled_back(two: EngineStore) -> None:
    """`use` makes one current, and `roll_back` the one before it, again and again."""
    two.use("own-1")
    two.use("own-2")
    assert two.current() == two.find("own-2")
    assert [two.roll_back(), two.roll_back()] == ["own-1", "own-2"]
    two.use(None)
    assert two.current() is None
    assert two.roll_back() == "own-2"


def test_a_switch_has_no_moment_without_an_engine(two: EngineStore) -> None:
    """Whoever looks while the current engine changes sees the old or the new one."""
    two.use("own-1")
    seen, over = set(), threading.Event()

    def look() -> None:
        while not over.is_set():
            engine = two.current()
            seen.add(None if engine is None else engine.name)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(50):
        two.use("own-2")
        two.use("own-1")
    over.set()
    thread.join()
    assert seen <= {"own-1", "own-2"}


@pytest.mark.parametrize("name", ["own-9", "current", "../own-1", "own-0", ""])
def test_what_is_no_engine_is_not_used(two: EngineStore, name: str) -> None:
    """A name that leads to no engine is refused, and the current one stays."""
    two.use("own-1")
    with pytest.raises(EngineError):
        two.use(name)
    assert two.current() == two.find("own-1")


def test_a_broken_current_engine_is_told(two: EngineStore, tmp_path: Path) -> None:
    """When the current engine's Python is gone, `current` says so instead of passing it over."""
    two.use("own-1")
    (tmp_path / "python").unlink()
    with pytest.raises(EngineError, match="own-1 is broken"):
        two.current()
    assert all(engine.is_broken for engine in two.engines())
    with pytest.raises(EngineError, match="own-2 is broken"):
        two.use("own-2")
    assert two.remove("own-2").name == "own-2"


def test_a_record_that_is_no_record_is_told(two: EngineStore) -> None:
    """An engine.json that cannot be read makes no engine."""
    (two.folder / "own-1" / "engine.json").write_text('{"name": 1}')
    with pytest.raises(EngineError, match="own-1 cannot be read"):
        two.find("own-1")
    assert [engine.name for engine in two.engines()] == ["own-2"]


def test_the_current_engine_is_not_removed(two: EngineStore) -> None:
    """Any other one is, and is then none to go back to."""
    two.use("own-1")
    two.use("own-2")
    with pytest.raises(EngineError, match="in use"):
        two.remove("own-2")
    assert two.remove("own-1").name == "own-1"
    assert [engine.name for engine in two.engines()] == ["own-2"]
    assert two.previous() is None
    assert not (two.folder / "own-1").exists()


def test_one_changes_at_a_time(store: EngineStore) -> None:
    """While somebody changes the engines, another is refused and not kept waiting."""
    with store.changing(), pytest.raises(EngineError, match="somebody else"), EngineStore(store.folder).changing():
        pass
    with store.changing():
        pass


def test_a_folder_that_is_no_folder_is_told(tmp_path: Path) -> None:
    """The place and the reason are in the error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="file/engines"), EngineStore(tmp_path / "file" / "engines").changing():
        pass


def test_a_link_that_leads_nowhere_is_told(two: EngineStore) -> None:
    """Somebody deleted the current engine's folder by hand."""
    two.use("own-1")
    shutil.rmtree(two.folder / "own-1")
    assert (two.folder / CURRENT).is_symlink()
    with pytest.raises(EngineError, match="there is no engine own-1"):
        two.current()
