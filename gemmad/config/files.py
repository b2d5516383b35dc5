"""The config's files: one, and whatever lies in `conf.d` beside it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from gemmad.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
MORE = "conf.d"


def config_files(path: Path) -> tuple[Path, ...]:
    """The file and those in `conf.d` beside it, by name; a later one wins. Names that begin with a dot are what
    editors leave. Raises ConfigError for a folder that cannot be read."""
    folder = path.parent / MORE
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".toml") and not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror or error}") from error
    return (path, *(folder / name for name in names))


def config_digest(path: Path) -> bytes:
    """What tells one content of all `config_files` from another. That one cannot be read is a content of its own."""
    try:
        files = config_files(path)
    except ConfigError as error:
        return _unreadable(error)
    return joint_digest({file: content_digest(file) for file in files})


def joint_digest(digests: dict[Path, bytes]) -> bytes:
    """Of several files, by their names too; that of a single one is its own."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    return hashlib.sha256(b"".join(file_digest(os.fsencode(file)) + each for file, each in digests.items())).digest()


def read_file(path: Path) -> bytes:
    """The file's bytes. Raises ConfigError when it cannot be read, is no plain file, or is too large for a config."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe would wait for its writer
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError(f"{path}: is not a regular file")
            with open(fd, "rb", closefd=False) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_FILE_BYTES} bytes, which no config needs")
    return data


def file_digest(data: bytes) -> bytes:
    """What tells one content of the file from another."""
    return hashlib.sha256(data).digest()


def content_digest(path: Path) -> bytes:
    """The digest of what `path` has now. That it cannot be read is a content of its own."""
    try:
        return file_digest(read_file(path))
    except ConfigError as error:
        return _unreadable(error)


def _unreadable(error: ConfigError) -> bytes:
    return hashlib.sha256(b"unreadable\0" + str(error).encode()).digest()
