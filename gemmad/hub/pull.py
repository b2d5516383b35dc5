"""A model from the hub into the store, whole or not at all; a pull that was cut goes on where it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from msgspec import Struct

from gemmad.config.models import ModelName
from gemmad.errors import CheckpointError
from gemmad.hub.fetch import PART, Way, bytes_there, disk_problem, fetch
from gemmad.hub.files import HubFile, check_index, holds, needed_files
from gemmad.hub.problems import DiskFullError, StoppedError, UnsuitableError
from gemmad.hub.remote import Hub, Listing
from gemmad.hub.store import MANIFEST, Manifest, Model, Store, read_manifest
from gemmad.planning.sizes import format_bytes
from gemmad.text.files import read_model_config

AT_A_TIME = 4
"""Files fetched together: one connection seldom fills a fast line."""


def free_bytes(folder: Path) -> int:
    """What this user may still write there."""
    return shutil.disk_usage(folder).free


class Outcome(Struct, frozen=True):
    """A model that is there."""

    folder: Path
    commit: str
    bytes: int
    fetched_bytes: int
    """0: it was there."""


class Watcher(Struct, frozen=True):
    """Who is told how it goes; from several threads."""

    begin: Callable[[str, int, int], None] = lambda _what, _total, _done: None
    """What is done, of how many bytes, and how many of them are there."""
    advance: Callable[[int], None] = lambda _count: None


class Pull:
    """One pull. `stop` may be called from a signal handler or another thread."""

    def __init__(
        self,
        name: ModelName,
        *,
        store: Store,
        hub: Hub,
        watcher: Watcher | None = None,
        free: Callable[[Path], int] = free_bytes,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        """`free` tells the room at a folder; `pause` waits between two tries, as many seconds as it is told."""
        self._name = name
        self._store = store
        self._hub = hub
        self._watcher = watcher or Watcher()
        self._free = free
        self._stopping = threading.Event()
        self._pause = pause or self._stopping.wait

    def stop(self) -> None:
        """End it soon, with a StoppedError; what came stays for the next time."""
        self._stopping.set()

    def run(self, *, verify: bool = False, before_replacing: Callable[[Model], None] = lambda _model: None) -> Outcome:
        """Have the model. Raises PullError.

        `verify` reads what is there and fetches what is damaged. `before_replacing` is asked before anything is fetched
        for a model that is there and would change; what it raises, comes out.
        """
        listing = self._hub.listing(self._name)
        try:
            files = needed_files(listing.files)
        except UnsuitableError as error:
            raise UnsuitableError(f"{self._name}: {error}") from error
        had = self._store.find(self._name)
        good = frozenset[str]() if had is None else self._good(had, files, verify=verify)
        if had is not None:
            if good == {file.name for file in files}:
                return Outcome(had.folder, listing.commit, had.bytes, 0)
            before_replacing(had)
        with self._store.pulling(self._name) as folder:
            self._prepare(folder, listing, files)
            if had is not None:
                _adopt(had.folder, [file for file in files if file.name in good], folder)
            fetched_bytes = self._fetch_all(folder, listing.commit, files)
            path = self._store.finish(folder, self._name)
        return Outcome(path, listing.commit, sum(file.size for file in files), fetched_bytes)

    def _good(self, had: Model, files: Sequence[HubFile], *, verify: bool) -> frozenset[str]:
        """Names of the files that need not be fetched. Sizes are believed unless it is to be verified."""
        known = set() if had.manifest is None else set(had.manifest.files)
        if not verify and known:
            return frozenset(file.name for file in files if file in known and _has_size(had.folder, file))
        self._watcher.begin("verifying", sum(file.size for file in files), 0)
        return frozenset(file.name for file in files if holds(had.folder / file.name, file, look=self._look))

    def _look(self, count: int) -> None:
        self._check_stopping()
        self._watcher.advance(count)

    def _prepare(self, folder: Path, listing: Listing, files: Sequence[HubFile]) -> None:
        """Throw away what an earlier try left and is of other content, and say what will be here."""
        before = read_manifest(folder)
        stay = set() if before is None else set(before.files).intersection(files)
        names = {name for file in stay for name in (file.name, f"{file.name}{PART}")}
        try:
            for path in folder.iterdir():
                if path.name not in names and path.name != MANIFEST:
                    path.unlink()
        except OSError as error:
            raise disk_problem(error, folder) from error
        manifest = Manifest(
            repo=self._name.repo,
            revision=self._name.revision,
            commit=listing.commit,
            pulled_at=int(time.time()),
            files=tuple(files),
        )
        self._store.write_manifest(folder, manifest)

    def _fetch_all(self, folder: Path, commit: str, files: Sequence[HubFile]) -> int:
        """Bytes that had to come."""
        total, done = sum(file.size for file in files), sum(bytes_there(file, folder) for file in files)
        self._require_room(folder, total - done)
        self._watcher.begin(f"pulling {self._name}", total, done)
        way = Way(read=partial(self._read, commit), advance=self._watcher.advance, pause=self._wait)
        small = [file for file in files if not file.is_weights]
        for file in small:  # they tell at once whether we may, and whether it is what it should be
            if not (folder / file.name).exists():
                fetch(file, folder, way)
        self._check(folder, files)
        large = [file for file in files if file.is_weights and not (folder / file.name).exists()]
        self._fetch_together(large, folder, way)
        return total - done

    def _fetch_together(self, files: Sequence[HubFile], folder: Path, way: Way) -> None:
        threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="pull")
        patient = True
        try:
            work = [threads.submit(fetch, file, folder, way) for file in files]
            done, _ = wait(work, return_when=FIRST_EXCEPTION)
            for one in done:
                one.result()
        except KeyboardInterrupt:
            patient = False  # one that reads from a silent connection hears nothing for a while
            raise
        finally:
            self._stopping.set()  # if one failed, the others, too
            threads.shutdown(wait=patient, cancel_futures=True)

    def _check(self, folder: Path, files: Sequence[HubFile]) -> None:
        try:
            read_model_config(folder)
            check_index(folder, files)
        except (CheckpointError, UnsuitableError) as error:
            words = str(error).removeprefix(f"{folder}/")
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)  # nobody will go on with it
            raise UnsuitableError(f"{self._name} is no Gemma 3 that gemmad can serve: {words}") from error

    def _require_room(self, folder: Path, needed: int) -> None:
        free = self._free(folder)
        if needed > free:
            raise DiskFullError(
                f"{self._store.folder}: {self._name} needs {format_bytes(needed)} more, and there is room for "
                f"{format_bytes(free)}"
            )

    def _read(self, commit: str, file: HubFile, offset: int) -> Iterator[bytes]:
        for chunk in self._hub.read(self._name, commit, file.name, offset=offset):
            self._check_stopping()
            yield chunk

    def _wait(self, seconds: float) -> bool:
        self._pause(seconds)
        return not self._stopping.is_set()

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise StoppedError(f"stopped; `gemmad pull {self._name}` goes on from here")


def _has_size(folder: Path, file: HubFile) -> bool:
    try:
        return (folder / file.name).stat().st_size == file.size
    except OSError:
        return False


def _adopt(had: Path, files: Sequence[HubFile], folder: Path) -> None:
    """What stays the same is not fetched: the new folder has it under a second name of the same file."""
    for file in files:
        with contextlib.suppress(OSError):  # then it is fetched after all
            os.link(had / file.name, folder / file.name)
