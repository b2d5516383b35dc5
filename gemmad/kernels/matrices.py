"""Weights as kernels take them: a plain tensor, or codes of 4 or 8 bits with scales.

Codes lie in words of 16 bits, in blocks of `BLOCK` columns. A word of int4 has four codes, a word of the others two:
word j of a block holds the columns j, j + W, j + 2·W, ... of it, the first in its lowest bits, with W = 32 words in a
block of int4 and 64 in the others. So one operation on a word yields neighbouring columns of each *plane*, in the
order in which tensor cores want them, and a plane of int4 is just one group of 32 columns.

| kind | a code | scales |
|---|---|---|
| int4 | q in 0..15, worth q - 8 | one for each row and group of 32, 64 or 128 columns, and an offset if asked for |
| int8 | two's complement, -127..127 | one for each row |
| fp8 | e4m3 (https://arxiv.org/abs/2209.05433) | one for each row |

A number of the weight is `scale · worth(code) + offset`; offsets are for formats with zero points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

CodedKind = Literal["int4", "int8", "fp8"]
BLOCK = 128
"""Columns that are packed together; every matrix has a multiple of them."""
GROUPS = (32, 64, 128)
"""Columns that one scale of int4 may serve."""
FP8_LARGEST = 448.0
"""Of e4m3."""


@dataclass(frozen=True)
class CodedMatrix:
    """A weight [N, K] of codes."""

    kind: CodedKind
    codes: torch.Tensor
    """[N, K / 4] (int4) or [N, K / 2] int16."""
    scales: torch.Tensor
    """[K / group, N] (int4), float16, bfloat16 or float32, or [1, N] float32."""
    offsets: torch.Tensor | None = None
    """As `scales`, of int4 alone; None: all are 0."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        rows, words = self.codes.shape
        return rows, words * codes_in_word(self.kind)

    @property
    def group(self) -> int:
        """Columns that one scale serves."""
        return self.shape[1] // self.scales.shape[0]

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.codes.device

    @property
    def nbytes(self) -> int:
        """Bytes of all that it is made of."""
        return sum(each.nbytes for each in self.tensors())

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Codes, scales, and offsets if there are any."""
        return tuple(each for each in (self.codes, self.scales, self.offsets) if each is not None)

    @property
    def layout(self) -> tuple[object, ...]:
        """All but sizes: matrices that have it in common are served by the same kernels."""
        return self.kind, self.group if self.kind == "int4" else None, self.scales.dtype, self.offsets is not None

    def rows(self, start: int, stop: int) -> CodedMatrix:
        """Some of its rows; a view."""
        offsets = None if self.offsets is None else self.offsets[:, start:stop]
        return replace(self, codes=self.codes[start:stop], scales=self.scales[:, start:stop], offsets=offsets)


Matrix = torch.Tensor | CodedMatrix
"""A weight [N, K]: numbers in the network's dtype, or codes."""


def codes_in_word(kind: CodedKind) -> int:
    """Codes in 16 bits."""
    return 4 if kind == "int4" else 2


def empty_coded(
    kind: CodedKind,
    rows: int,
    columns: int,
    *,
    device: torch.device,
    group: int = BLOCK,
    scale_dtype: torch.dtype = torch.float16,
    offsets: bool = False,
) -> CodedMatrix:
    """One whose tensors are to be filled. `group`, `scale_dtype` and `offsets` are int4's."""
    assert columns % BLOCK == 0, "blocks are whole"
    codes = torch.empty(rows, columns // codes_in_word(kind), dtype=torch.int16, device=device)
    if kind != "int4":
        return CodedMatrix(kind, codes, torch.empty(1, rows, dtype=torch.float32, device=device))
    scales = torch.empty(columns // group, rows, dtype=scale_dtype, device=device)
    return CodedMatrix(kind, codes, scales, torch.empty_like(scales) if offsets else None)


def pack(kind: CodedKind, codes: torch.Tensor) -> torch.Tensor:
    """Codes [N, K] (int4: 0..15 in any integer dtype; int8: int8; fp8: float8_e4m3fn) → words [N, K / codes] int16."""
    if kind == "fp8":
        codes = codes.view(torch.uint8)
    count = codes_in_word(kind)
    bits = 16 // count
    rows, columns = codes.shape
    planes = codes.view(rows, columns // BLOCK, count, BLOCK // count).to(torch.int32) & ((1 << bits) - 1)
    words = planes[:, :, 0].clone()
    for plane in range(1, count):
        words |= planes[:, :, plane] << (bits * plane)
    return words.to(torch.int16).view(rows, columns // count)  # the highest bit becomes the sign


def unpack(kind: CodedKind, words: torch.Tensor) -> torch.Tensor:
    """Words [N, K / codes] int16 → what the codes are worth, [N, K] float32."""
    rows = words.shape[0]
    if kind != "int4":
        codes = words.contiguous().view(torch.int8 if kind == "int8" else torch.float8_e4m3fn)
        return codes.view(rows, -1, BLOCK // 2, 2).transpose(2, 3).float().reshape(rows, -1)
    low, high = words.contiguous().view(torch.uint8).view(rows, -1, BLOCK // 4, 2).unbind(3)
    planes = torch.stack((low & 15, low >> 4, high & 15, high >> 4), 2).view(rows, -1)
    return planes.float().sub_(8)


def decode(matrix: CodedMatrix, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The numbers that a coded matrix stands for, [N, K]: computed in float32, rounded once."""
    numbers = unpack(matrix.kind, matrix.codes)
    rows, columns = numbers.shape
    grouped = numbers.view(rows, matrix.scales.shape[0], -1)
    grouped = grouped * matrix.scales.t().float()[:, :, None]
    if matrix.offsets is not None:
        grouped = grouped + matrix.offsets.t().float()[:, :, None]
    return grouped.view(rows, columns).to(dtype)
