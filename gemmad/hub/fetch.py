"""One file from the hub into a folder: what is there already is not fetched again, and what is wrong does not stay."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from gemmad.hub.files import Checksum, HubFile
from gemmad.hub.problems import DamagedError, DiskFullError, NoAccessError, StoppedError, UnreachableError

PART = ".part"
"""What a file's name ends with until its checksum was right."""
RETRIES = 6
"""Cuts in a row without a byte between them."""
PAUSE_LIMIT_SECONDS = 30.0
FILE_MODE = 0o644
"""The daemon may be another user than whoever pulls, under any umask."""
_BLOCK_BYTES = 1 << 20

Read = Callable[[HubFile, int], Iterator[bytes]]
"""The file's bytes from an offset on, maybe not to its end; raises UnreachableError for a cut."""


class Way(Struct, frozen=True):
    """How bytes come, and who is told."""

    read: Read
    advance: Callable[[int], None]
    """Bytes that came; negative for those that were thrown away."""
    pause: Callable[[float], bool]
    """Wait so many seconds; whether to go on."""


def fetch(file: HubFile, folder: Path, way: Way) -> None:
    """Put the file into `folder`, going on where an earlier try ended; bytes that are there were counted before.

    Raises PullError. A checksum that is wrong once may be the doing of what an earlier try left, so all of it is
    fetched once more.
    """
    part = folder / f"{file.name}{PART}"
    try:
        if not _fetch(file, part, way) and not _fetch(file, part, way):
            raise DamagedError(f"{file.name}: what came has another checksum than the hub tells, twice")
        part.chmod(FILE_MODE)
        part.replace(folder / file.name)
    except OSError as error:
        raise disk_problem(error, part) from error


def bytes_there(file: HubFile, folder: Path) -> int:
    """How much of the file need not be fetched."""
    for path in (folder / file.name, folder / f"{file.name}{PART}"):
        try:
            return min(path.stat().st_size, file.size)
        except OSError:
            continue
    return 0


def disk_problem(error: OSError, path: Path) -> NoAccessError | DiskFullError:
    """What the file system said, as whose problem it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{path.parent}: the disk is full; what came stays, so make room and pull again")
    return NoAccessError(f"{error.filename or path}: {error.strerror or error}")


def _fetch(file: HubFile, part: Path, way: Way) -> bool:
    """Whether `part` has the file now; else it is gone."""
    with _opened(part) as stream:
        checksum, have = Checksum(file), 0
        while have < file.size and (block := stream.read(min(_BLOCK_BYTES, file.size - have))):
            checksum.update(block)
            have += len(block)
        stream.seek(have)
        stream.truncate()
        for chunk in _chunks(file, have, way):
            checksum.update(chunk)
            stream.write(chunk)
            way.advance(len(chunk))
        stream.flush()
        os.fsync(stream.fileno())
        if checksum.is_right():
            return True
        way.advance(-file.size)
    part.unlink()
    return False


def _opened(part: Path) -> BinaryIO:
    return os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE), "r+b")


def _chunks(file: HubFile, have: int, way: Way) -> Iterator[bytes]:
    """All that is missing, over cuts."""
    cuts = 0
    while have < file.size:
        try:
            for chunk in way.read(file, have):
                have += len(chunk)
                cuts = 0
                _require_no_more(file, have)
                yield chunk
            _require_end(file, have)
        except UnreachableError:
            cuts += 1
            if cuts > RETRIES:
                raise
            if not way.pause(min(PAUSE_LIMIT_SECONDS, 2.0 ** (cuts - 2))):
                raise StoppedError("stopped") from None


def _require_end(file: HubFile, have: int) -> None:
    if have < file.size:
        raise UnreachableError(f"the connection ended {file.size - have} bytes before the end of {file.name}")


def _require_no_more(file: HubFile, have: int) -> None:
    if have > file.size:
        raise DamagedError(f"{file.name}: more came than the {file.size} bytes that the hub tells")
