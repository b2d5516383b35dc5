"""What a safetensors file holds and where, without a byte of the tensors themselves; and the header of a new one.

The layout (https://github.com/huggingface/safetensors#format): eight bytes, the header's length, little-endian; the
header, one JSON object from name to {dtype, shape, data_offsets}; then the tensors' bytes, back to back, without holes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gemmad.errors import CheckpointError

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100 << 20
"""The format's own bound."""
_METADATA = "__metadata__"
_ALIGNMENT = 8

_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_READ_AS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_WRITTEN_AS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int16: "I16"}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file."""

    path: Path
    name: str
    kind: str
    """The format's name of its dtype."""
    shape: tuple[int, ...]
    start: int
    """Offset of its first byte in the file."""
    end: int
    """Offset after its last byte."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the file."""
        return self.end - self.start

    @property
    def dtype(self) -> torch.dtype:
        """Raises CheckpointError for a kind of number that no weight is read from."""
        dtype = _READ_AS.get(self.kind)
        if dtype is None:
            known = ", ".join(_READ_AS)
            raise CheckpointError(f"{self.path}: {self.name} is {self.kind}; weights are read from {known}")
        return dtype


def read_header(path: Path) -> tuple[StoredTensor, ...]:
    """Every tensor of a file, in the order of their bytes. Raises CheckpointError for a file that is not whole."""
    header, first, size = _open(path)
    entries = [_stored(path, name, entry, first) for name, entry in header.items() if name != _METADATA]
    tensors = tuple(sorted(entries, key=lambda tensor: (tensor.start, tensor.end)))
    _check_whole(path, tensors, first=first, size=size)
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """What a file says of itself. Raises CheckpointError as `read_header` does."""
    found = _open(path)[0].get(_METADATA, {})
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def kind_of(dtype: torch.dtype) -> str:
    """The format's name of a dtype that `encode_header` writes."""
    return _WRITTEN_AS[dtype]


def encode_header(tensors: Mapping[str, torch.Tensor], *, metadata: Mapping[str, str]) -> bytes:
    """What goes before the tensors' bytes, which follow back to back in the mapping's order."""
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    at = 0
    for name, tensor in tensors.items():
        offsets = [at, at + tensor.nbytes]
        header[name] = {"dtype": kind_of(tensor.dtype), "shape": list(tensor.shape), "data_offsets": offsets}
        at = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)  # as the format's own library does
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _open(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header, the offset of the first tensor and the file's size."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > min(size - LENGTH_BYTES, MOST_HEADER_BYTES):
                raise _broken(path, f"its header claims {length} bytes of a file of {size}")
            return _parse(path, file.read(length)), LENGTH_BYTES + length, size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        known = dict(pairs)
        if len(known) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in known if names.count(name) > 1)
            raise _broken(path, f"{twice} is in its header twice")
        return known

    try:
        header = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise _broken(path, "its header is no JSON object")
    return header


def _stored(path: Path, name: str, entry: Any, base: int) -> StoredTensor:
    try:
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise _broken(path, f"{name} is described by {str(entry)[:200]}") from error
    numbers = (*shape, start, end) if isinstance(shape, list) else (None,)
    # bool is an int to Python, and no size
    if not isinstance(kind, str) or not all(type(number) is int and number >= 0 for number in numbers):
        raise _broken(path, f"{name} is described by {str(entry)[:200]}")
    item = _ITEM_BYTES.get(kind)
    if start > end or (item is not None and math.prod(shape) * item != end - start):
        raise _broken(path, f"{name}, {kind} of {shape}, does not take {end - start} bytes")
    return StoredTensor(path, name, kind, tuple(shape), base + start, base + end)


def _check_whole(path: Path, tensors: tuple[StoredTensor, ...], *, first: int, size: int) -> None:
    """Back to back, from the header's end to the file's."""
    at = first
    for tensor in tensors:
        if tensor.start != at:
            how = "overlaps the tensor before it" if tensor.start < at else "leaves a hole before it"
            raise _broken(path, f"{tensor.name} {how}, at byte {tensor.start}")
        at = tensor.end
    if at != size:
        raise _broken(path, f"its tensors end at byte {at}, the file at {size}: it may have been cut off")


def _broken(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is broken: {reason}")
