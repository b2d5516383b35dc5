"""The samples of the last days, on disk, behind one thread.

The loop hands samples over and asks for some back; it never waits for the disk. A file that is broken is moved aside
and a new one begun. While the disk takes nothing (full, read-only) that is told once and tried again later: samples
that could not be written wait in memory, a bounded number, and are shown with what the file has.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from gemmad.config.paths import make_private
from gemmad.config.schema import MonitorSection
from gemmad.errors import UnavailableError
from gemmad.logs import get_logger
from gemmad.monitor.sample import MemorySample
from gemmad.monitor.samplefile import FILE_NAME, FileTakenError, OtherVersionError, SampleFile, move_aside

RETRY_SECONDS = 60.0
"""Between two tries to write to a disk that took nothing."""
CLOSE_SECONDS = 5.0
QUEUE_LIMIT = 64
"""Of samples to write and of questions, together."""
UNWRITTEN_LIMIT = 4096
READ_LIMIT = 5000
"""Samples of one worker in one answer, whatever is asked for."""

log = get_logger(__name__)


class _Write(Struct, frozen=True):
    samples: tuple[MemorySample, ...]


class _Read(Struct, frozen=True):
    since: float
    until: float
    limit: int
    answer: concurrent.futures.Future[list[MemorySample]]


class _End(Struct, frozen=True):
    pass


class History:
    """Used from the event loop; all that touches the disk happens in its thread."""

    def __init__(
        self,
        folder: Path,
        *,
        section: Callable[[], MonitorSection],
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """`folder` is made if it is missing."""
        self._keeper = _Keeper(folder, section=section, wall=wall, clock=clock, retry_seconds=retry_seconds)
        self._jobs: queue.Queue[_Write | _Read | _End] = queue.Queue(QUEUE_LIMIT)
        self._is_behind = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="gemmad-history", daemon=True)
        self._thread.start()

    def add(self, samples: Sequence[MemorySample]) -> None:
        """Have them written; dropped, and told once, if the disk is that far behind."""
        if self._closed:
            return
        try:
            self._jobs.put_nowait(_Write(tuple(samples)))
        except queue.Full:
            if not self._is_behind:
                log.warning("memory samples dropped", reason="the disk does not keep up")
            self._is_behind = True
        else:
            self._is_behind = False

    async def samples(self, since: float, until: float, limit: int) -> tuple[MemorySample, ...]:
        """Samples of that time in seconds since the epoch, the oldest first, thinned to about `limit` of each worker.
        Raises UnavailableError while too many ask."""
        if self._closed:
            return ()
        question = _Read(since, until, max(1, min(limit, READ_LIMIT)), concurrent.futures.Future())
        try:
            self._jobs.put_nowait(question)
        except queue.Full:
            raise UnavailableError("The memory history is busy.", retry_after_seconds=2.0) from None
        found = await asyncio.wrap_future(question.answer)
        return tuple(found)

    def close(self) -> None:
        """Write what waits and close the file; at the latest after `CLOSE_SECONDS`."""
        if self._closed:
            return
        self._closed = True
        until = time.monotonic() + CLOSE_SECONDS
        with contextlib.suppress(queue.Full):
            self._jobs.put(_End(), timeout=CLOSE_SECONDS)
        self._thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        try:
            self._keeper.write(())  # what is wrong with the disk is told at the start, and what is open stays as it is
            while not isinstance(job := self._jobs.get(), _End):
                if isinstance(job, _Write):
                    self._keeper.write(job.samples)
                elif job.answer.set_running_or_notify_cancel():
                    job.answer.set_result(self._keeper.read(since=job.since, until=job.until, limit=job.limit))
        finally:
            self._refuse_the_rest()
            self._keeper.close()

    def _refuse_the_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if isinstance(job, _Read):
                    job.answer.cancel()


class _Keeper:
    """What the thread does: nothing here raises for what a disk or a file can do."""

    def __init__(
        self,
        folder: Path,
        *,
        section: Callable[[], MonitorSection],
        wall: Callable[[], float],
        clock: Callable[[], float],
        retry_seconds: float,
    ) -> None:
        self._path = folder / FILE_NAME
        self._section = section
        self._wall = wall
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._file: SampleFile | None = None
        self._unwritten: deque[MemorySample] = deque(maxlen=UNWRITTEN_LIMIT)
        self._retry_at: float | None = None
        """On the clock; None while nothing is wrong."""

    def write(self, samples: Sequence[MemorySample]) -> None:
        """These and those that wait, and delete what is too old or too much."""
        self._unwritten.extend(samples)
        if self._retry_at is not None and self._clock() < self._retry_at:
            return
        section = self._section()
        try:
            file = self._opened()
            file.add(self._unwritten)
            self._unwritten.clear()
            file.trim(oldest=self._wall() - section.keep, limit_bytes=section.keep_bytes)
        except (OSError, sqlite3.Error, FileTakenError, OtherVersionError) as error:
            self._note(error, doing="written")
            return
        if self._retry_at is not None:
            log.info("memory history kept again", path=str(self._path))
        self._retry_at = None

    def read(self, *, since: float, until: float, limit: int) -> list[MemorySample]:
        """Of the file, as far as it can be read, and of those that wait."""
        found: list[MemorySample] = []
        try:
            if self._file is not None or self._retry_at is None:
                found = self._opened().read(since=since, until=until, limit=limit)
        except (OSError, sqlite3.Error, FileTakenError, OtherVersionError) as error:
            self._note(error, doing="read")
        return found + [sample for sample in self._unwritten if since <= sample.at <= until]

    def close(self) -> None:
        """Nothing is open any more."""
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error, OSError):
                self._file.close()
            self._file = None

    def _opened(self) -> SampleFile:
        if self._file is None:
            make_private(self._path.parent)
            self._file = SampleFile.open(self._path)
        return self._file

    def _note(self, error: Exception, *, doing: str) -> None:
        if isinstance(error, OtherVersionError):
            self._begin_anew(error, suffix=f"layout-{error.version}")
        elif isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            self._begin_anew(error, suffix="broken")
        else:
            self._wait(error, doing)

    def _begin_anew(self, error: Exception, *, suffix: str) -> None:
        """What waits is written with the next samples."""
        self.close()
        try:
            aside = move_aside(self._path, suffix=suffix)
        except OSError as trouble:
            self._wait(trouble, "moved aside")
            return
        log.warning("memory history begins anew", reason=str(error), moved_to=str(aside))

    def _wait(self, error: Exception, doing: str) -> None:
        """The file stays open if it is: what it has may be readable."""
        if self._retry_at is None:
            log.warning(
                "memory history not kept",
                reason=str(error),
                could_not_be=doing,
                path=str(self._path),
                samples="in memory",
            )
        self._retry_at = self._clock() + self._retry_seconds
