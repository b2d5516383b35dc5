"""Rings when the content of the config's files, or of one with keys, has changed, however it was written.

Three nets, each below the other. File events wake at once, from the folder of the file's name and that of what the
name leads to: editors write beside a file and rename, Kubernetes swaps a symlink further up. A digest of the content
decides, so touching the file, or a neighbour, rings nothing. And where events do not come (NFS, inotify's limits, a
folder that was made anew) a slow look finds the change.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from gemmad import logs
from gemmad.config.files import content_digest

log = logs.get_logger(__name__)

_WAKING: list[type[FileSystemEvent]] = [
    # not opened, not closed-without-writing: our own reading would wake us for ever
    FileCreatedEvent,
    FileModifiedEvent,
    FileClosedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]
_CLOSE_TIMEOUT_SECONDS = 2.0


class ConfigWatcher:
    """Watches one file. `ring` is called in the loop's thread, once for each content that stayed for `settle_seconds`.

    `seen` is the digest of the content that is in force, so an edit between loading and watching is not lost. `digest`
    makes it from the path; if it also reads what lies in a folder, that is `beside`.
    """

    def __init__(
        self,
        path: Path,
        *,
        seen: bytes,
        ring: Callable[[], None],
        digest: Callable[[Path], bytes] = content_digest,
        beside: Path | None = None,
        settle_seconds: float = 0.3,
        poll_seconds: float = 10.0,
    ) -> None:
        self._path = path
        self._seen = seen
        self._ring = ring
        self._digest = digest
        self._beside = beside
        self._settle_seconds = settle_seconds
        self._poll_seconds = poll_seconds

    async def run(self) -> None:
        """Watch until cancelled."""
        woken = asyncio.Event()
        folders = _Folders(asyncio.get_running_loop(), woken)
        try:
            while True:
                folders.follow(_folders_of(self._path, self._beside))
                await self._look()
                await self._wait(woken)
        finally:
            folders.close()

    async def _look(self) -> None:
        # In a thread: a file on a network that hangs must not hang the daemon.
        digest = await asyncio.to_thread(self._digest, self._path)
        if digest != self._seen:
            self._seen = digest
            self._ring()

    async def _wait(self, woken: asyncio.Event) -> None:
        """Wait for an event and then for quiet; for either no longer than the slow look's time."""
        if not await _is_set_within(woken, self._poll_seconds):
            return
        give_up = time.monotonic() + self._poll_seconds
        while woken.is_set() and time.monotonic() < give_up:
            woken.clear()
            await _is_set_within(woken, self._settle_seconds)
        woken.clear()


class _Folders(FileSystemEventHandler):
    """The watched folders. Events set `woken` from the observer's thread, whatever they say: the content decides."""

    def __init__(self, loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> None:
        self._loop = loop
        self._woken = woken
        self._observer: BaseObserver | None = None
        self._watches: dict[str, tuple[ObservedWatch, int]] = {}
        self._gone: set[str] = set()
        self._has_complained = False

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called in the observer's thread."""
        gone = os.fsdecode(event.src_path) if isinstance(event, DirDeletedEvent | DirMovedEvent) else None
        with contextlib.suppress(RuntimeError):  # the loop has ended while we are closing
            self._loop.call_soon_threadsafe(self._wake, gone)

    def follow(self, wanted: dict[str, int]) -> None:
        """Watch these folders (path → inode). A watch belongs to an inode, so a folder made anew needs a new one."""
        try:
            self._follow(wanted)
        except OSError as error:  # inotify's limits, or a folder that went away this moment
            if not self._has_complained:
                log.warning("config is watched by polling", reason=str(error))
            self._has_complained = True
            self.close()

    def close(self) -> None:
        observer, self._observer = self._observer, None
        self._watches.clear()
        if observer is not None:
            observer.stop()
            observer.join(_CLOSE_TIMEOUT_SECONDS)

    def _wake(self, gone: str | None) -> None:
        if gone is not None:
            self._gone.add(gone)
        self._woken.set()

    def _follow(self, wanted: dict[str, int]) -> None:
        if self._observer is None:
            observer = Observer()
            observer.start()
            self._observer = observer
        for folder, (watch, inode) in list(self._watches.items()):
            if wanted.get(folder) != inode or folder in self._gone:  # inode numbers are used again at once
                del self._watches[folder]
                self._observer.unschedule(watch)
        self._gone.clear()
        for folder, inode in wanted.items():
            if folder not in self._watches:
                watch = self._observer.schedule(self, folder, recursive=False, event_filter=_WAKING)
                self._watches[folder] = (watch, inode)


def _folders_of(path: Path, beside: Path | None) -> dict[str, int]:
    """Folders of the name and of what it leads to, `beside` and what its files lead to, those that exist, with their
    inodes."""
    folders = _folders_of_name(path)
    if beside is not None:
        with contextlib.suppress(OSError):
            for name in [beside / "_", *beside.iterdir()]:
                folders |= _folders_of_name(name)
    found = {}
    for folder in sorted(folders):
        try:
            found[folder] = os.stat(folder).st_ino
        except OSError:
            continue
    return found


def _folders_of_name(path: Path) -> set[str]:
    return {os.path.dirname(path.absolute()), os.path.dirname(os.path.realpath(path))}


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
