"""The tensors of a checkpoint's safetensors by module, and what is asked of one before a byte of it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from gemmad.errors import CheckpointError
from gemmad.models.formats.names import plain_name
from gemmad.models.formats.reading import read_bytes
from gemmad.models.tensorfile import StoredTensor, read_header

Parts: TypeAlias = Mapping[str, StoredTensor]
"""A module's tensors by the last word of their names."""

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Kinds that scales are stored as."""
_READ_AS = FLOATS | {"I32": torch.int32, "I64": torch.int64, "I8": torch.int8}


@dataclass(frozen=True)
class Stored:
    """Every tensor of a checkpoint: those of modules with codes, and the others."""

    modules: Mapping[str, Parts]
    """By the module's plain name: `layers.3.self_attn.q_proj`."""
    plain: tuple[StoredTensor, ...]


def read_stored(folder: Path, marks: Iterable[str]) -> Stored:
    """`marks`: last words of names, one of which each module with codes has.

    Raises CheckpointError for files that are missing or broken, and for a tensor that is there twice.
    """
    wanted = frozenset(marks)
    tensors = [tensor for path in weight_files(folder) for tensor in read_header(path)]
    coded = {_module(tensor) for tensor in tensors if _part(tensor) in wanted}
    modules: dict[str, dict[str, StoredTensor]] = {module: {} for module in coded}
    for tensor in tensors:
        if (parts := modules.get(_module(tensor))) is None:
            continue
        if (other := parts.get(_part(tensor))) is not None:
            raise CheckpointError(f"{tensor.path}: {tensor.name} is there twice, also as {other.name} in {other.path}")
        parts[_part(tensor)] = tensor
    return Stored(modules, tuple(tensor for tensor in tensors if _module(tensor) not in coded))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a checkpoint's weights. Raises CheckpointError when one is missing."""
    index = folder / "model.safetensors.index.json"
    files = [folder / "model.safetensors"]
    if index.exists():
        try:
            names = sorted({str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index} cannot be read: {error!r}") from error
        if strange := next((name for name in names if Path(name).name != name), None):
            raise CheckpointError(f"{index} names {strange!r}, which is no file beside it")
        files = [folder / name for name in names]
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: the checkpoint has no weights there")
    return files


def part(parts: Parts, word: str, *, kinds: Iterable[str]) -> StoredTensor:
    """A module's tensor of that name. Raises CheckpointError where it is missing or of none of these kinds."""
    stored = parts.get(word)
    if stored is None:
        beside = next(iter(parts.values()))
        raise CheckpointError(f"{beside.path}: {beside.name} has no {word} beside it")
    if stored.kind not in tuple(kinds):
        raise CheckpointError(f"{stored.path}: {stored.name} is {stored.kind}, not {' or '.join(kinds)}")
    return stored


def expect_shape(stored: StoredTensor, *shape: int) -> None:
    """Raises CheckpointError for a tensor of another shape."""
    if stored.shape != shape:
        found, wanted = list(stored.shape), list(shape)
        raise CheckpointError(f"{stored.path}: {stored.name} is {found}, {wanted} is what fits config.json")


def read_whole(stored: StoredTensor) -> torch.Tensor:
    """All of a small tensor, on the CPU. Raises CheckpointError for a file that cannot be read."""
    return read_bytes(stored).view(_READ_AS[stored.kind]).view(stored.shape)


def refuse_permuted(parts: Parts, word: str, *, columns: int, groups: int) -> None:
    """Raises CheckpointError where columns were sorted into groups in another order than they lie in (`desc_act`)."""
    if word not in parts:
        return
    stored = part(parts, word, kinds=("I32", "I64"))
    expect_shape(stored, columns)
    order = read_whole(stored).long()
    if bool((order == -1).any()):
        return  # compressed-tensors says so where nothing was sorted
    if groups > 1 and not torch.equal(order, torch.arange(columns) // (columns // groups)):
        raise CheckpointError(
            f"{stored.path}: {stored.name} sorts columns into groups by their activations (desc_act, actorder = group);"
            " quantise with desc_act = false, static_groups = true or actorder = weight"
        )


def _module(tensor: StoredTensor) -> str:
    return plain_name(tensor.name).rpartition(".")[0]


def _part(tensor: StoredTensor) -> str:
    return tensor.name.rpartition(".")[2]
