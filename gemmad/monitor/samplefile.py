"""Samples in a SQLite file: how they are laid out, kept within bounds, and read thinned without losing a peak.

Nothing here waits for long or knows of threads; whoever holds a `SampleFile` uses it from one thread. SQLite itself
keeps the file whole when a process dies (write-ahead log); without a sync for each write a power cut may cost the last
minutes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from gemmad.errors import GemmadError
from gemmad.monitor.sample import MemorySample

FILE_NAME = "history.sqlite3"
"""In the state folder."""
VERSION = 1
"""Of the layout, as `user_version`. A file with another one is not touched."""
LOCK_SUFFIX = "-owner"
SUFFIXES = ("", "-wal", "-shm")

_FIELDS = MemorySample.__struct_fields__
_KEYS = ("at", "worker", "life", "state", "gpu")
_NUMBERS = tuple(name for name in _FIELDS if name not in _KEYS)
_CREATE = (
    "CREATE TABLE samples (at REAL NOT NULL, worker TEXT NOT NULL, life INTEGER NOT NULL, state TEXT NOT NULL, "
    + "gpu TEXT, "
    + ", ".join(f"{name} INTEGER" for name in _NUMBERS)
    + ", PRIMARY KEY (at, worker)) WITHOUT ROWID"
)
_COLUMNS = ", ".join(_FIELDS)
_INSERT = f"INSERT OR REPLACE INTO samples ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})"  # noqa: S608

# Numbers are the highest of their bucket, so that no peak is lost: a life's sizes are the same in each of its samples,
# or nothing before it is ready. The rest is as of the bucket's last sample.
_LATEST = ", ".join(f"{'buckets' if name in _NUMBERS else 'samples'}.{name}" for name in _FIELDS)
_THINNED = (
    f"SELECT {_LATEST} FROM (SELECT max(at) AS last, worker AS who, "  # noqa: S608
    + ", ".join(f"max({name}) AS {name}" for name in _NUMBERS)
    + " FROM samples WHERE at BETWEEN :since AND :until GROUP BY worker, life, CAST(at / :width AS INTEGER)) AS buckets"
    " JOIN samples ON samples.at = buckets.last AND samples.worker = buckets.who ORDER BY samples.at, samples.worker"
)
_WHOLE = f"SELECT {_COLUMNS} FROM samples WHERE at BETWEEN :since AND :until ORDER BY at, worker"  # noqa: S608

_BUSY_SECONDS = 2.0
_LOG_PAGES = 64
"""Pages of the write-ahead log after which it is put into the file: 256 KiB, which `trim` leaves room for."""
_TRIM_ROWS = 1000
"""Deleted in one transaction, so that the log stays as small."""
_TRIM_TURNS = 32
"""In one `trim`; what is left waits for the next."""


class OtherVersionError(GemmadError):
    """A file that another gemmad has laid out."""

    def __init__(self, path: Path, version: int) -> None:
        super().__init__(f"{path} has layout {version}, and this gemmad reads {VERSION}")
        self.version = version


class FileTakenError(GemmadError):
    """Another daemon keeps its samples there."""


class SampleFile:
    """Open. Every method may raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, *, lock: int | None = None) -> None:
        self._connection = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> SampleFile:
        """For writing, by its one owner; made if it is not there, for its owner only. The folder must exist.

        Raises FileTakenError, OtherVersionError, OSError and sqlite3.Error.
        """
        with contextlib.ExitStack() as stack:
            lock = _owned(path.with_name(path.name + LOCK_SUFFIX))
            stack.callback(os.close, lock)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            stack.callback(connection.close)
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before there is a table
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            connection.execute("PRAGMA journal_size_limit = 0")
            if not _version(connection, path):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_CREATE)
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.execute("COMMIT")
            stack.pop_all()
        return cls(connection, lock=lock)

    @classmethod
    def open_to_read(cls, path: Path) -> SampleFile:
        """For looking only, whether its owner is at work or not.

        Raises FileNotFoundError, PermissionError, OtherVersionError and sqlite3.Error.
        """
        path.open("rb").close()  # SQLite does not say why it cannot
        url = f"{path.absolute().as_uri()}?mode=ro"
        try:
            return cls(_looked_into(url, path))
        except sqlite3.OperationalError:
            if path.with_name(f"{path.name}-wal").exists():
                raise
            return cls(_looked_into(f"{url}&immutable=1", path))  # in a folder that we may not write; nobody does

    def close(self) -> None:
        """What was written is in the file itself."""
        try:
            self._connection.close()
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def add(self, samples: Iterable[MemorySample]) -> None:
        """All, or none if it fails."""
        rows = [tuple(getattr(sample, name) for name in _FIELDS) for sample in samples]
        with self._transaction():
            self._connection.executemany(_INSERT, rows)

    def trim(self, *, oldest: float, limit_bytes: int) -> int:
        """Delete what is from before `oldest`, and the oldest of the rest while the file is too large; a part of it if
        there is much. Returns how many."""
        deleted = 0
        for _ in range(_TRIM_TURNS):
            is_large = self._used_bytes() > limit_bytes - _LOG_PAGES * self._number("page_size")
            last = self._connection.execute("SELECT at FROM samples ORDER BY at LIMIT 1 OFFSET ?", (_TRIM_ROWS,))
            edge = float("inf") if (row := last.fetchone()) is None else row[0]
            edge = edge if is_large else min(edge, oldest)
            with self._transaction():
                gone = self._connection.execute("DELETE FROM samples WHERE at < ?", (edge,)).rowcount
                self._connection.execute("PRAGMA incremental_vacuum").fetchall()
            deleted += gone
            if not gone:
                break
        return deleted

    def read(self, *, since: float, until: float, limit: int) -> list[MemorySample]:
        """Samples of that time, the oldest first: all if they are `limit` or fewer, else about `limit` of each worker,
        each with the highest values of those that it stands for."""
        times = {"since": since, "until": until}
        first = self._connection.execute("SELECT min(at) FROM samples WHERE at BETWEEN :since AND :until", times)
        begin = first.fetchone()[0]
        if begin is None:
            return []
        last = self._connection.execute("SELECT max(at) FROM samples WHERE at BETWEEN :since AND :until", times)
        few = f"SELECT count(*) FROM (SELECT 1 FROM samples WHERE at BETWEEN :since AND :until LIMIT {limit + 1})"  # noqa: S608
        if self._connection.execute(few, times).fetchone()[0] <= limit:
            rows = self._connection.execute(_WHOLE, times)
        else:
            width = max(1e-3, (last.fetchone()[0] - begin) / limit)
            rows = self._connection.execute(_THINNED, {**times, "width": width})
        return [MemorySample(**dict(zip(_FIELDS, row, strict=True))) for row in rows]

    def _used_bytes(self) -> int:
        """On disk, less what the next vacuum gives back."""
        return (self._number("page_count") - self._number("freelist_count")) * self._number("page_size")

    def _number(self, pragma: str) -> int:
        return int(self._connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self._connection.execute("ROLLBACK")
            raise


def move_aside(path: Path, *, suffix: str) -> Path:
    """Give a file that cannot be used another name, where an older one of that name makes way; the new name."""
    aside = path.with_name(f"{path.name}.{suffix}")
    for end in SUFFIXES[1:]:
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.replace(aside)
    return aside


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """0 of a new file. Raises OtherVersionError."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(samples)")}
    if (version, columns) in ((VERSION, set(_FIELDS)), (0, set())):
        return version
    raise OtherVersionError(path, version)


def _looked_into(url: str, path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(url, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = 1")
        is_new = not _version(connection, path)
    except BaseException:
        connection.close()
        raise
    if is_new:  # somebody has begun to make it
        connection.close()
        raise FileNotFoundError(path)
    return connection


def _owned(path: Path) -> int:
    """A lock that ends with this process. Not on the file itself: to close that once would undo SQLite's own locks."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise FileTakenError(f"another daemon keeps its samples in {path.parent}") from None
    except OSError:
        os.close(lock)
        raise
    return lock
