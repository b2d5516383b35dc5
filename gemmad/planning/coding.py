"""How matrices are coded: what their bytes follow from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

MatrixName = Literal["qkv", "o", "gate_up", "down"]
BLOCK = 128
"""Columns that are packed together: a coded matrix has a multiple of them."""


class Coding(Struct, frozen=True):
    """Of one matrix."""

    kind: Literal["int4", "int8", "fp8"]
    group: int = BLOCK
    """Columns that one scale of int4 serves; each of the others' serves a row."""
    scale_bytes: int = 2
    """Of one scale of int4; the others' have 4."""
    offsets: bool = False
    """Whether int4 has an offset beside each scale."""


class CodedFormats(Struct, frozen=True):
    """Of a checkpoint that comes quantised. Its embedding is int8 in memory, whatever it is in the file."""

    source: str
    """How it was: `compressed-tensors`, `awq`, `gptq`, `fp8` or `gguf`."""
    layers: Coding
    """Of the layers' matrices."""
    others: Mapping[tuple[int, MatrixName], Coding | None] = {}
    """Matrices of some layers that differ; None: numbers in the file, int8 in memory."""

    def of(self, layer: int, matrix: MatrixName) -> Coding | None:
        """Of one merged matrix; None: numbers in the file."""
        return self.others.get((layer, matrix), self.layers)
