"""The folder with pulled models: one plain folder for each, whole or not there at all.

`models/google--gemma-3-4b-it/` has the checkpoint and `.gemmad.json`, which tells where it is from. What is on its way
is in `models/.pulling/`, which nobody serves from; a finished pull is renamed, and so is first what is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from gemmad.config.models import ModelName
from gemmad.config.paths import make_private
from gemmad.hub.fetch import disk_problem
from gemmad.hub.files import HubFile
from gemmad.hub.problems import UnreachableError

MANIFEST = ".gemmad.json"
PULLING = ".pulling"
FOLDER_MODE = 0o755
"""The daemon may be another user than whoever pulls."""


class Manifest(Struct, frozen=True, kw_only=True):
    """What a folder was made of."""

    repo: str
    revision: str | None
    """As it was asked for."""
    commit: str
    pulled_at: int
    """Seconds since the epoch."""
    files: tuple[HubFile, ...]


class Model(Struct, frozen=True, kw_only=True):
    """A folder of the store, or of what is on its way."""

    name: ModelName | None
    """None for one that somebody put there by hand under another name."""
    folder: Path
    bytes: int
    manifest: Manifest | None
    complete: bool
    """False: a pull of it goes on, or was cut."""


class Store:
    """Its methods raise NoAccessError and DiskFullError where the file system refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pulling = folder / PULLING

    def models(self) -> tuple[Model, ...]:
        """All, in the order of their folders' names; those that are not complete last."""
        done = [self._model(path, complete=True) for path in _folders(self.folder) if not path.name.startswith(".")]
        return (*done, *(self._model(path, complete=False) for path in _folders(self._pulling)))

    def find(self, name: ModelName) -> Model | None:
        """The complete one, if it is there."""
        path = self.folder / name.folder_name
        return self._model(path, complete=True) if path.is_dir() else None

    @contextlib.contextmanager
    def pulling(self, name: ModelName) -> Iterator[Path]:
        """Have the model's unfinished folder for oneself. Raises UnreachableError while somebody else has it."""
        folder = self._pulling / name.folder_name
        lock = self._pulling / f"{name.folder_name}.lock"
        try:
            make_private(self.folder.parent)
            _make_readable(self.folder)
            _make_readable(self._pulling)
            fd = _locked(lock)
            _make_readable(folder)
        except BlockingIOError:
            raise UnreachableError(f"another `gemmad pull` of {name} runs; it goes on by itself") from None
        except OSError as error:
            raise disk_problem(error, lock) from error
        try:
            yield folder
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # if nothing has come
            if not folder.exists():
                lock.unlink(missing_ok=True)
            os.close(fd)

    def write_manifest(self, folder: Path, manifest: Manifest) -> None:
        """Say what the folder is made of, or will be."""
        path = folder / MANIFEST
        beside = folder / f"{MANIFEST}.new"
        try:
            beside.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
            beside.chmod(0o644)
            beside.replace(path)
        except OSError as error:
            raise disk_problem(error, path) from error

    def finish(self, folder: Path, name: ModelName) -> Path:
        """The unfinished folder is the model from now on, in place of what was there; where it is."""
        path = self.folder / name.folder_name
        try:
            _sync(folder)
            with contextlib.suppress(FileNotFoundError):
                self._throw_away(path)
            folder.rename(path)
            _sync(self.folder)
        except OSError as error:
            raise disk_problem(error, path) from error
        return path

    def remove(self, model: Model) -> None:
        """Not a moment of it is half there; a cut pull of it goes with it."""
        try:
            with contextlib.suppress(FileNotFoundError):
                self._throw_away(model.folder)
            unfinished = self._pulling / model.folder.name
            if unfinished.is_dir():
                self._throw_away(unfinished)
            (self._pulling / f"{model.folder.name}.lock").unlink(missing_ok=True)
        except OSError as error:
            raise disk_problem(error, model.folder) from error

    def _throw_away(self, path: Path) -> None:
        if path.is_symlink():  # what it leads to is not ours
            path.unlink()
            return
        _make_readable(self._pulling)
        trash = self._pulling / f".trash-{uuid.uuid4().hex}"
        path.rename(trash)
        shutil.rmtree(trash)

    def _model(self, path: Path, *, complete: bool) -> Model:
        return Model(
            name=ModelName.of_folder(path.name),
            folder=path,
            bytes=_size(path),
            manifest=read_manifest(path),
            complete=complete,
        )


def read_manifest(folder: Path) -> Manifest | None:
    """Where the folder is from; None if it does not tell."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError):
        return None


def _locked(path: Path) -> int:
    """Raises BlockingIOError while somebody else has it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:
            pass  # who had it has removed it
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _size(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                total += entry.stat().st_size
    return total


def _make_readable(folder: Path) -> None:
    try:
        folder.mkdir()
    except FileExistsError:
        return
    folder.chmod(FOLDER_MODE)


def _sync(folder: Path) -> None:
    """What was renamed in it is so after a power cut, too."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no such thing
            raise
    finally:
        os.close(fd)
