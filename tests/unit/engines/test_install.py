"""Making engines, with interpreters that are scripts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gemmad.engines.install import LOCKS, add, install, kinds
from gemmad.engines.store import Engine, EngineError, EngineStore

Python = Callable[..., Path]
ROOT = Path(__file__).parents[3]


def make(store: EngineStore, python: Path, *, kind: str = "small", needed_bytes: int = 0) -> Engine:
    """An engine by a lock file that names nothing."""
    file = python.with_name("lock.txt")
    file.write_text("")
    with store.changing():
        return install(store, kind, say=lambda _: None, lock=file, needed_bytes=needed_bytes, python=str(python))


def left(store: EngineStore) -> list[str]:
    """What is in the folder, but for its lock."""
    return sorted(set(os.listdir(store.folder)) - {".lock"})


def test_an_engine_tells_what_it_has(store: EngineStore, python: Python) -> None:
    """A new engine has its own interpreter, its versions and its size, and is not current by itself."""
    engine = make(store, python())
    assert engine == store.find("small-1")
    assert engine.python == str(store.folder / "small-1" / "bin" / "python")
    assert engine.versions == {"torch": "2.13.0", "python": "3.12.1"}
    assert engine.bytes > 0
    assert store.current() is None
    assert make(store, python()).name == "small-2"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"pip": "echo 'No matching distribution' >&2; exit 1"}, "No matching distribution"),
        ({"status": 1}, "no worker can run in"),
        ({"kind": "cuda", "cuda": None}, "built without CUDA"),
    ],
)
def test_a_broken_installation_leaves_nothing(
    store: EngineStore, python: Python, broken: dict[str, object], words: str
) -> None:
    """Pip fails, no worker could run in it, or its torch has no CUDA: nothing is left, and the old one stays."""
    make(store, python())
    store.use("small-1")
    kind = str(broken.pop("kind", "small"))
    with pytest.raises(EngineError, match=words):
        make(store, python(**broken), kind=kind)
    assert left(store) == ["current", "small-1"]
    assert store.current() == store.find("small-1")


def test_an_interrupted_installation_is_cleared_away(store: EngineStore, python: Python) -> None:
    """What a killed installation left is no engine, cannot be used, and goes with the next one."""
    with store.changing():
        begun = store.begin("small")
    assert store.engines() == ()
    with pytest.raises(EngineError):
        store.use(begun.name)
    (begun / "rest").write_text("")
    engine = make(store, python())
    assert left(store) == [engine.name]
    assert not (store.folder / engine.name / "rest").exists()


def test_room_is_looked_at_first(store: EngineStore, python: Python) -> None:
    """Without the room that an engine takes, nothing is begun."""
    with pytest.raises(EngineError, match="GB left"):
        make(store, python(), needed_bytes=1 << 60)
    assert left(store) == []


def test_an_unknown_kind_is_refused(store: EngineStore) -> None:
    """The kinds that there are get named."""
    with store.changing(), pytest.raises(EngineError, match="cpu, cuda"):
        install(store, "rocm", say=lambda _: None)
    assert kinds() == ("cpu", "cuda")


@pytest.mark.parametrize("path", ["/nowhere/python", "/tmp"])
def test_only_an_interpreter_is_added(store: EngineStore, path: str) -> None:
    """What cannot be run is refused."""
    with store.changing(), pytest.raises(EngineError, match="no Python"):
        add(store, Path(path))


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_locks_are_of_the_constraints(kind: str) -> None:
    """Each lock names exact versions, those of constraints.txt, and torch among them; none has gemmad."""
    chosen = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")}
    text = "".join(path.read_text() for path in LOCKS.glob(f"{kind}*.txt"))
    pins = {line.removesuffix("+cpu") for line in text.splitlines() if line[0] not in "#-"}
    assert pins <= chosen
    assert {"torch", "numpy", "msgspec", "llguidance"} <= {pin.partition("==")[0] for pin in pins}
