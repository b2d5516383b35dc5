"""What a GGUF file holds and where, without a byte of the tensors themselves.

The layout (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), little-endian: `GGUF`, a version, how many
tensors and how many keys; the keys, each a string, a type and a value; the tensors, each a name, its dimensions (the
innermost first), a type and an offset; padding; then the tensors' bytes, each at its offset, a multiple of the
alignment.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gemmad.errors import CheckpointError

SUFFIX = ".gguf"
MOST_HEADER_BYTES = 256 << 20
"""Vocabularies are a few MiB."""
_MOST_TENSORS = 1 << 16
_MOST_KEYS = 1 << 16
_MOST_DIMENSIONS = 4
_ALIGNMENT = 32
TOWER_MARK = "mmproj"
"""In the name of llama.cpp's file with the vision tower."""
SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
"""The name of one of several files that make a model."""

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9

BLOCKS: Mapping[str, tuple[int, int]] = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "F64": (1, 8),
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34),
    "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210),
}  # fmt: skip
"""Numbers in a block of each type that is known by name, and its bytes."""
_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K",
    13: "Q5_K", 14: "Q6_K", 28: "F64", 30: "BF16",
}  # fmt: skip


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of a file."""

    path: Path
    name: str
    kind: str
    """As ggml calls its type; `type 23` for one that is not in `BLOCKS`."""
    shape: tuple[int, ...]
    """The innermost dimension last, as torch has it."""
    start: int
    """Offset of its first byte in the file."""
    end: int
    """Offset after its last byte; `start` where the type is not known."""


@dataclass(frozen=True)
class GgufFile:
    """A file's header."""

    path: Path
    keys: Mapping[str, str | int | float | bool]
    """Without arrays."""
    tensors: tuple[GgufTensor, ...]


@dataclass(frozen=True)
class GgufFiles:
    """Which files of a folder make one checkpoint."""

    model: tuple[Path, ...]
    """In the order of their numbers."""
    vision: Path | None
    """llama.cpp's `mmproj` file."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return self.model if self.vision is None else (*self.model, self.vision)


def find_gguf(folder: Path) -> GgufFiles | None:
    """The GGUF files of a folder; None where safetensors are what it holds, or nothing.

    Raises CheckpointError where several models lie side by side, or a part of one is missing.
    """
    if any(folder.glob("*.safetensors")):
        return None
    names = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
    vision = [name for name in names if TOWER_MARK in name.lower()]
    model = [name for name in names if name not in vision]
    if not names:
        return None
    if not model:
        raise CheckpointError(f"{folder}: {vision[0]} is a vision tower; the *.gguf of the network is missing")
    if len(vision) > 1:
        raise CheckpointError(f"{folder}: {vision[0]} and {vision[1]} are both vision towers; keep one")
    return GgufFiles(_whole(folder, model), folder / vision[0] if vision else None)


def missing_beside(folder: Path, files: GgufFiles, names: Sequence[str]) -> str | None:
    """How it is said that some of `names` do not lie beside a GGUF file, and where they are from; None: all do."""
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return None
    return (
        f"{folder}: {files.model[0].name} has no {' and no '.join(missing)} beside it: gemmad reads weights alone from"
        " GGUF, so put them there from the model's own repository, such as google/gemma-3-12b-it"
    )


def _whole(folder: Path, names: list[str]) -> tuple[Path, ...]:
    parts = [SPLIT.fullmatch(name) for name in names]
    first = parts[0]
    if first is None or any(part is None or part["stem"] != first["stem"] for part in parts):
        if len(names) > 1:
            raise CheckpointError(f"{folder}: {names[0]} and {names[1]} are different models; keep one in the folder")
        if first is None:
            return (folder / names[0],)
    assert first is not None
    count = int(first["count"])
    wanted = [f"{first['stem']}-{number:05}-of-{count:05}{SUFFIX}" for number in range(1, min(count, 1000) + 1)]
    if wanted != names:
        missing = next((name for name in wanted if name not in names), f"a file that fits {names[0]}")
        raise CheckpointError(f"{folder}: {missing} is missing: the model was split into {count} files")
    return tuple(folder / name for name in names)


def read_gguf(path: Path) -> GgufFile:
    """A file's header. Raises CheckpointError for a file that is not whole, or of a version that is not known."""
    try:
        with path.open("rb") as file:
            return _Header(path, file).read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


class _Header:
    """Reads through a header once, never past the file's end and never more of it than a header may take."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._at = 0

    def read(self) -> GgufFile:
        if self._size < 4 or self._bytes(4) != b"GGUF":
            raise CheckpointError(f"{self._path} is no GGUF file")
        version = self._number("<I")
        if version not in (2, 3):
            raise CheckpointError(f"{self._path} is GGUF of version {version}; versions 2 and 3 are read")
        tensors, keys = int(self._number("<Q")), int(self._number("<Q"))
        if tensors > _MOST_TENSORS or keys > _MOST_KEYS:
            raise self._broken(f"its header claims {tensors} tensors and {keys} keys")
        held = dict(self._key() for _ in range(keys))
        infos = [self._info() for _ in range(tensors)]
        alignment = held.get("general.alignment", _ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= 1 << 20:
            raise self._broken(f"its alignment is {alignment!r}")
        base = -(-self._at // alignment) * alignment
        known = {key: value for key, value in held.items() if value is not None}
        return GgufFile(self._path, known, self._place(infos, base, alignment))

    def _place(
        self, infos: list[tuple[str, tuple[int, ...], int, int]], base: int, alignment: int
    ) -> tuple[GgufTensor, ...]:
        names: set[str] = set()
        tensors = []
        for name, shape, number, offset in infos:
            kind = _TYPES.get(number)
            block, block_bytes = BLOCKS[kind] if kind else (1, 0)
            if name in names:
                raise self._broken(f"{name} is in its header twice")
            if shape[-1] % block or offset % alignment:
                raise self._broken(f"{name}, {kind} of {list(shape)} at {offset}, does not lie in whole blocks")
            nbytes = math.prod(shape) // block * block_bytes
            if base + offset + nbytes > self._size:
                end = base + offset + nbytes
                raise self._broken(f"{name} ends at byte {end}, the file at {self._size}: it may have been cut off")
            names.add(name)
            start = base + offset
            tensors.append(GgufTensor(self._path, name, kind or f"type {number}", shape, start, start + nbytes))
        return tuple(tensors)

    def _key(self) -> tuple[str, str | int | float | bool | None]:
        name = self._string()
        return name, self._value(int(self._number("<I")))

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        count = int(self._number("<I"))
        if not 0 < count <= _MOST_DIMENSIONS:
            raise self._broken(f"{name} has {count} dimensions")
        shape = tuple(int(self._number("<Q")) for _ in range(count))[::-1]
        if min(shape) < 1 or max(shape) > 1 << 40:
            raise self._broken(f"{name} is {list(shape)}")
        return name, shape, int(self._number("<I")), int(self._number("<Q"))

    def _value(self, kind: int) -> str | int | float | bool | None:
        if kind == _STRING:
            return self._string()
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind != _ARRAY:
            raise self._broken(f"a value of type {kind} is in its header")
        item, count = int(self._number("<I")), int(self._number("<Q"))
        if item in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[item]))
        elif item == _STRING:
            self._check(8 * count)
            for _ in range(count):
                self._skip(int(self._number("<Q")))
        else:
            raise self._broken(f"an array of values of type {item} is in its header")
        return None

    def _string(self) -> str:
        try:
            return self._bytes(int(self._number("<Q"))).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._broken(f"its header is not UTF-8: {error.reason}") from error

    def _number(self, form: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(form, self._bytes(struct.calcsize(form)))[0]
        return value

    def _bytes(self, count: int) -> bytes:
        self._check(count)
        self._at += count
        held = self._file.read(count)
        if len(held) != count:
            raise self._broken("it was cut off while it was read")
        return held

    def _skip(self, count: int) -> None:
        self._check(count)
        self._at += count
        if count < 1 << 12:
            self._file.read(count)  # a seek would throw the buffer away
        else:
            self._file.seek(self._at)

    def _check(self, count: int) -> None:
        if self._at + count > min(self._size, MOST_HEADER_BYTES):
            raise self._broken(f"its header goes on beyond byte {min(self._size, MOST_HEADER_BYTES)}")

    def _broken(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self._path} is broken: {reason}")
