"""The folder of engines: which there are, and which one is current.

engines/cpu-1/engine.json    an engine; without this file it is what a broken installation left
engines/cpu-1/bin/python     of one that was made here; one that was added has its Python elsewhere
engines/current -> cpu-1     replaced by rename: whoever looks sees the old one or the new one
engines/previous -> cuda-3   what `roll_back` goes back to
engines/.lock                held by whoever changes any of it
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from gemmad.config.paths import Paths
from gemmad.errors import GemmadError

CURRENT = "current"
PREVIOUS = "previous"
RECORD = "engine.json"
_LOCK = ".lock"
_NAME = re.compile(r"(?P<kind>[a-z]{1,16})-(?P<number>[1-9][0-9]{0,5})")


class EngineError(GemmadError):
    """An engine cannot be had, used or removed; the message is for people."""


class Engine(Struct, frozen=True, kw_only=True):
    """A complete one, as engine.json tells."""

    name: str
    kind: str
    """`cuda`, `cpu`, or `own` for an environment that somebody else made."""
    python: str
    """Absolute path of its interpreter."""
    site: str
    """The folder that torch is in; its time tells of changes."""
    versions: dict[str, str]
    """Of torch and Python, for people."""
    made: str
    """When, in ISO 8601."""
    bytes: int = 0
    """On disk; 0 for an environment that somebody else made."""

    @property
    def is_broken(self) -> bool:
        """Its Python is gone, as after an upgrade of the system to another one."""
        return not os.access(self.python, os.X_OK)


class EngineStore:
    """Reading needs no lock. Every change is made within `changing`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def engines(self) -> tuple[Engine, ...]:
        """All complete ones, broken or not, by name."""
        found = []
        for name in self._names():
            with contextlib.suppress(EngineError):
                found.append(self._read(name))
        return tuple(sorted(found, key=lambda engine: (engine.kind, int(engine.name.rpartition("-")[2]))))

    def find(self, name: str) -> Engine:
        """Raises EngineError if there is none of this name, or it cannot be used."""
        engine = self._read(name)
        if engine.is_broken:
            raise EngineError(f"engine {name} is broken: {engine.python} cannot be run")
        return engine

    def current(self) -> Engine | None:
        """What workers run in; None: the daemon's own Python. Raises EngineError if it cannot be used."""
        name = self._target(CURRENT)
        return None if name is None else self.find(name)

    def previous(self) -> str | None:
        """The name of the one that was current before."""
        return self._target(PREVIOUS)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes anything meanwhile. Raises EngineError if somebody does, or the folder is not ours."""
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineError(f"{self.folder}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise EngineError("somebody else changes the engines just now") from None
        finally:
            os.close(lock)

    def begin(self, kind: str) -> Path:
        """The folder of a new engine, which is none before `finish`. What broken installations left goes."""
        numbers = [0]
        for name in self._names():
            if not (self.folder / name / RECORD).exists():
                shutil.rmtree(self.folder / name)
            elif name.startswith(f"{kind}-"):
                numbers.append(int(name.rpartition("-")[2]))
        folder = self.folder / f"{kind}-{max(numbers) + 1}"
        folder.mkdir(mode=0o755)
        return folder

    def finish(self, engine: Engine) -> None:
        """It is complete from here on."""
        path = self.folder / engine.name / RECORD
        draft = path.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(engine)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def abandon(self, folder: Path) -> None:
        """What was begun is not to be."""
        shutil.rmtree(folder, ignore_errors=True)

    def use(self, name: str | None) -> None:
        """Make it current at once; None: the daemon's own Python. Raises EngineError, and then nothing changes."""
        if name is not None:
            self.find(name)
        before = self._target(CURRENT)
        if before == name:
            return
        if before is not None:
            self._point(PREVIOUS, before)
        self._point(CURRENT, name)

    def roll_back(self) -> str:
        """Make the previous one current, and the current one previous; its name. Raises EngineError."""
        name = self.previous()
        if name is None:
            raise EngineError("no engine was in use before")
        self.use(name)
        return name

    def remove(self, name: str) -> Engine:
        """Delete one that is not current, of one that was added only the entry; what it was. Raises EngineError."""
        engine = self._read(name)
        if self._target(CURRENT) == name:
            raise EngineError(f"engine {name} is in use; another one first: `gemmad engine use NAME`")
        (self.folder / name / RECORD).unlink()
        if self._target(PREVIOUS) == name:
            self._point(PREVIOUS, None)
        shutil.rmtree(self.folder / name)
        return engine

    def _read(self, name: str) -> Engine:
        if _NAME.fullmatch(name) is None:
            raise EngineError(f"{name!r} is no engine's name; one looks like cuda-1")
        try:
            record = (self.folder / name / RECORD).read_bytes()
            return msgspec.json.decode(record, type=Engine)
        except FileNotFoundError:
            raise EngineError(f"there is no engine {name} in {self.folder}") from None
        except (OSError, msgspec.DecodeError) as error:
            raise EngineError(f"engine {name} cannot be read: {error}") from None

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.folder) if _NAME.fullmatch(name)]
        except OSError:
            return []

    def _target(self, link: str) -> str | None:
        try:
            return os.readlink(self.folder / link)
        except OSError:
            return None

    def _point(self, link: str, name: str | None) -> None:
        """By rename, so that there is no moment without one."""
        path = self.folder / link
        if name is None:
            path.unlink(missing_ok=True)
            return
        draft = self.folder / f".{link}.new"
        draft.unlink(missing_ok=True)
        draft.symlink_to(name)
        draft.replace(path)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def engines_dir(paths: Paths) -> Path:
    """Where they are: the system's in /var/lib/gemmad/engines."""
    return paths.state_dir / "engines"
