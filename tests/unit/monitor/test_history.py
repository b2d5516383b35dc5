"""The history's thread: it never keeps the loop waiting, and outlives what a disk can do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from gemmad.config.schema import MonitorSection
from gemmad.errors import UnavailableError
from gemmad.monitor.history import QUEUE_LIMIT, History
from gemmad.monitor.sample import MemorySample
from tests.fakes.somebody import needs_root, somebody_else
from tests.unit.monitor.samples import T0, sample


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def kept(folder: Path, *, clock: Callable[[], float] = time.monotonic) -> Iterator[History]:
    history = History(folder, section=MonitorSection, wall=lambda: T0, clock=clock)
    try:
        yield history
    finally:
        history.close()


@contextmanager
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """The history's log lines, all of them at the end."""
    lines: list[dict[str, Any]] = []
    caplog.clear()
    caplog.set_level("INFO")
    yield lines
    lines += [cast("dict[str, Any]", line.msg) for line in caplog.records if line.name == "gemmad.monitor.history"]


def read(history: History, *, limit: int = 100) -> list[MemorySample]:
    """All; what was added before is written before."""
    return list(asyncio.run(history.samples(0.0, 1e12, limit)))


def test_it_survives_a_restart(tmp_path: Path) -> None:
    """What one daemon has kept the next one tells, in a folder that is made when it is needed."""
    folder = tmp_path / "state"
    with kept(folder) as history:
        history.add([sample(T0), sample(T0, "gpu1")])
        assert read(history) == [sample(T0), sample(T0, "gpu1")]
    with kept(folder) as history:
        history.add([sample(T0 + 10)])
        assert [(each.at, each.worker) for each in read(history)] == [(T0, "gpu0"), (T0, "gpu1"), (T0 + 10, "gpu0")]
    assert "gemmad-history" not in {thread.name for thread in threading.enumerate()}


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    """Samples that were handed over just before the end are on the disk, and later ones go nowhere."""
    history = History(tmp_path, section=MonitorSection, wall=lambda: T0)
    for i in range(50):
        history.add([sample(T0 + i)])
    history.close()
    history.add([sample(T0 + 99)])
    history.close()
    assert asyncio.run(history.samples(0.0, 1e12, 100)) == ()
    with kept(tmp_path) as again:
        assert len(read(again)) == 50


def test_the_old_goes(tmp_path: Path) -> None:
    """What is older than `monitor.keep` is deleted as new samples come."""
    with kept(tmp_path) as history:
        history.add([sample(T0 - 8 * 86400), sample(T0 - 6 * 86400)])
        assert [each.at for each in read(history)] == [T0 - 6 * 86400]


@pytest.mark.parametrize("what", ["no database", "malformed", "another layout"])
def test_a_broken_file_makes_way(tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be used is moved aside with a word in the log, and samples are kept in a new one."""
    path = tmp_path / "history.sqlite3"
    if what == "no database":
        path.write_bytes(b"this is no database, and longer than a header" * 10)
    else:
        with kept(tmp_path) as history:
            for i in range(0, 3000, 100):
                history.add([sample(T0 + i + j) for j in range(100)])
        if what == "malformed":
            with path.open("r+b") as file:
                file.seek(8192)
                file.write(os.urandom(os.path.getsize(path) - 8192))
        else:
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA user_version = 9")
            connection.close()
    with told(caplog) as logs, kept(tmp_path) as history:
        for i in range(3):
            history.add([sample(T0 + 10_000 + i)])
        found = read(history, limit=100)
    assert [each.at for each in found][-3:] == [T0 + 10_000, T0 + 10_001, T0 + 10_002]
    assert len(found) == 3
    assert [line["event"] for line in logs] == ["memory history begins anew"]
    suffix = "layout-9" if what == "another layout" else "broken"
    assert path.with_name(f"history.sqlite3.{suffix}").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a place on disk that is told once; samples are shown from memory, and written once there is one."""
    (tmp_path / "state").write_text("a file where the folder should be")
    clock = Clock()
    with told(caplog) as logs, kept(tmp_path / "state", clock=clock) as history:
        for i in range(5):
            clock.now += 30.0
            history.add([sample(T0 + i)])
            assert len(read(history)) == i + 1
        assert len(caplog.records) == 1
        (tmp_path / "state").unlink()
        clock.now += 61.0
        history.add([sample(T0 + 5)])
        assert len(read(history)) == 6
    assert [line["event"] for line in logs] == ["memory history not kept", "memory history kept again"]
    with kept(tmp_path / "state") as history:
        assert len(read(history)) == 6


def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that takes no more is told once; what the file has is still told, together with what came since."""
    clock = Clock()
    with told(caplog) as logs, kept(tmp_path, clock=clock) as history:
        history.add([sample(T0)])
        assert len(read(history)) == 1
        file = history._keeper._file
        assert file is not None
        file._connection.execute("PRAGMA max_page_count = 1")  # SQLite's own way to say: disk full
        for i in range(1, 400):
            clock.now += 61.0
            history.add([sample(T0 + i, "gpu0" * 20)])
            if i % 20 == 0:
                assert len(read(history, limit=1000)) == i + 1
        assert len(caplog.records) == 1
        file._connection.execute("PRAGMA max_page_count = 1000000")
        clock.now += 61.0
        history.add([sample(T0 + 400)])
        assert len(read(history, limit=1000)) == 401
    assert [line["event"] for line in logs] == ["memory history not kept", "memory history kept again"]
    assert "full" in logs[0]["reason"]


@needs_root
def test_a_folder_that_is_somebody_elses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A state folder without the right to write is told once, and nothing else is different."""
    with somebody_else(), told(caplog) as logs, kept(tmp_path / "state") as history:
        for i in range(3):
            history.add([sample(T0 + i)])
        assert len(read(history)) == 3
    assert [line["event"] for line in logs] == ["memory history not kept"]


def test_two_daemons_one_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second daemon does not mix its samples into the first one's: it keeps its own in memory, and says so."""
    with kept(tmp_path) as first, told(caplog) as logs, kept(tmp_path) as second:
        first.add([sample(T0)])
        assert read(first) == [sample(T0)]
        second.add([sample(T0 + 1)])
        assert read(second) == [sample(T0 + 1)]
        assert read(first) == [sample(T0)]
    assert "another daemon" in logs[0]["reason"]


def test_a_disk_that_hangs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the disk hangs nobody waits to hand samples over, what is too much is dropped and told once, and who asks
    is told to come back."""
    hang = threading.Event()
    began = threading.Event()

    def section() -> MonitorSection:  # asked for by the thread, before each write
        began.set()
        assert hang.wait(60)
        return MonitorSection()

    history = History(tmp_path, section=section, wall=lambda: T0)
    try:
        with told(caplog) as logs:
            history.add([sample(T0)])
            assert began.wait(60)
            for i in range(QUEUE_LIMIT + 10):
                history.add([sample(T0 + 1 + i)])
            with pytest.raises(UnavailableError, match="busy"):
                read(history)
        assert [line["event"] for line in logs] == ["memory samples dropped"]
        hang.set()
    finally:
        hang.set()
        history.close()
    with kept(tmp_path) as again:
        assert len(read(again)) == QUEUE_LIMIT  # the thread hung with what it does first


def test_who_asks_may_go(tmp_path: Path) -> None:
    """A question whose asker has gone is skipped, and the next one is answered."""
    hang = threading.Event()

    def section() -> MonitorSection:
        assert hang.wait(60)
        return MonitorSection()

    async def ask_and_go(history: History) -> int:
        history.add([sample(T0)])
        asking = asyncio.ensure_future(history.samples(0.0, 1e12, 10))
        await asyncio.sleep(0)
        asking.cancel()
        hang.set()
        return len(await history.samples(0.0, 1e12, 10))

    history = History(tmp_path, section=section, wall=lambda: T0)
    try:
        assert asyncio.run(ask_and_go(history)) == 1
    finally:
        history.close()
