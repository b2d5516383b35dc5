"""AWQ and GPTQ: codes of [K, N] in words of 32 bits, as AutoAWQ, AutoGPTQ and GPTQModel write them.

| | qweight | order in a word | qzeros | scales |
|---|---|---|---|---|
| AWQ, `gemm` | [K, N / 8] | columns 0, 2, 4, 6, 1, 3, 5, 7 of eight | [G, N / 8], in the same order | [G, N] |
| GPTQ | [K · bits / 32, N] | rows in their order | [G, N · bits / 32], columns in their order | [G, N] |

Sources: https://github.com/casper-hansen/AutoAWQ (`WQLinear_GEMM`), https://github.com/ModelCloud/GPTQModel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gemmad.errors import CheckpointError
from gemmad.models.formats.codes import nibbles
from gemmad.models.formats.integers import IntegerRows
from gemmad.models.formats.reading import read_strips
from gemmad.models.formats.stored import FLOATS, Parts, expect_shape, part, refuse_permuted
from gemmad.models.tensorfile import StoredTensor

_WORD_BYTES = 4


@dataclass(frozen=True)
class AwqFile:
    """An `IntegerFile` of AutoAWQ's `gemm` version."""

    qweight: StoredTensor
    qzeros: StoredTensor | None
    scales: StoredTensor
    bits: int = 4

    @property
    def name(self) -> str:
        return f"{self.qweight.path}: {self.qweight.name}"

    @property
    def shape(self) -> tuple[int, int]:
        columns, words = self.qweight.shape
        return words * 8, columns

    @property
    def groups(self) -> int:
        return self.scales.shape[0]

    @property
    def has_zeros(self) -> bool:
        return self.qzeros is not None

    @property
    def scale_dtype(self) -> torch.dtype:
        return FLOATS[self.scales.kind]

    def rows(self, start: int, stop: int, device: torch.device) -> IntegerRows:
        scales = _across(self.scales, start, stop, item=FLOATS[self.scales.kind].itemsize).to(device)
        zeros = None if self.qzeros is None else self._unpack(self.qzeros, start, stop, device)
        return IntegerRows(
            self._unpack(self.qweight, start, stop, device), scales.view(self.scale_dtype).t().contiguous(), zeros
        )

    def _unpack(self, stored: StoredTensor, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """[R, N / 8] words in the file → [stop - start, R] uint8."""
        first, last = start // 8, -(-stop // 8)
        halves = nibbles(_across(stored, first, last, item=_WORD_BYTES).to(device))
        ordered = halves.view(len(halves), -1, 2, 4).transpose(2, 3).flatten(1)  # even columns lie before odd ones
        return ordered[:, start - 8 * first : stop - 8 * first].t().contiguous()


def awq_file(parts: Parts, rows: int, columns: int) -> AwqFile:
    """A module's. Raises CheckpointError for shapes that do not belong together."""
    qweight = part(parts, "qweight", kinds=("I32",))
    if rows % 8:
        raise CheckpointError(f"{qweight.path}: {qweight.name} has {rows} rows, which are packed by eight")
    expect_shape(qweight, columns, rows // 8)
    scales = _scales(parts, rows, columns)
    qzeros = part(parts, "qzeros", kinds=("I32",)) if "qzeros" in parts else None
    if qzeros is not None:
        expect_shape(qzeros, scales.shape[0], rows // 8)
    return AwqFile(qweight, qzeros, scales)


@dataclass(frozen=True)
class GptqFile:
    """An `IntegerFile` of GPTQ's."""

    qweight: StoredTensor
    qzeros: StoredTensor
    scales: StoredTensor
    bits: int
    symmetric: bool
    """What config.json says; zeros that say otherwise are refused."""
    zeros_added: int
    """What a stored zero lacks: 1 in the first version of the format."""

    @property
    def name(self) -> str:
        return f"{self.qweight.path}: {self.qweight.name}"

    @property
    def shape(self) -> tuple[int, int]:
        words, rows = self.qweight.shape
        return rows, words * 32 // self.bits

    @property
    def groups(self) -> int:
        return self.scales.shape[0]

    @property
    def has_zeros(self) -> bool:
        return not self.symmetric

    @property
    def scale_dtype(self) -> torch.dtype:
        return FLOATS[self.scales.kind]

    def rows(self, start: int, stop: int, device: torch.device) -> IntegerRows:
        words = _across(self.qweight, start, stop, item=_WORD_BYTES).to(device)
        held = words.view(len(words), stop - start, _WORD_BYTES).transpose(0, 1).contiguous()
        codes = (nibbles(held) if self.bits == 4 else held).flatten(1)
        scales = _across(self.scales, start, stop, item=self.scale_dtype.itemsize).to(device)
        zeros = self._zeros(start, stop, device)
        if self.symmetric and bool((zeros != 1 << (self.bits - 1)).any()):
            raise CheckpointError(f"{self.name}: config.json says it is symmetric, and its qzeros are not the middle")
        return IntegerRows(codes, scales.view(self.scale_dtype).t().contiguous(), None if self.symmetric else zeros)

    def _zeros(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """[stop - start, G] uint8. What was taken off was taken off whole words, with borrows from field to field."""
        per_word = 32 // self.bits
        first, last = start // per_word, -(-stop // per_word)
        words = _across(self.qzeros, first, last, item=_WORD_BYTES).to(device).view(torch.int32)
        fields = sum(self.zeros_added << (self.bits * place) for place in range(per_word))
        held = (words + fields).view(torch.uint8)
        zeros = nibbles(held) if self.bits == 4 else held
        return zeros[:, start - per_word * first : stop - per_word * first].t().contiguous()


def gptq_file(parts: Parts, rows: int, columns: int, *, symmetric: bool, zeros_added: int) -> GptqFile:
    """A module's. Raises CheckpointError for shapes that do not belong together, codes that are neither of 4 nor of 8
    bits, and columns that were sorted into groups."""
    qweight = part(parts, "qweight", kinds=("I32",))
    if len(qweight.shape) != 2 or qweight.shape[0] * 32 not in (4 * columns, 8 * columns):
        found = list(qweight.shape)
        raise CheckpointError(f"{qweight.path}: {qweight.name} is {found}, no {columns} codes of 4 or 8 bits a column")
    bits = qweight.shape[0] * 32 // columns
    expect_shape(qweight, columns * bits // 32, rows)
    scales = _scales(parts, rows, columns)
    qzeros = part(parts, "qzeros", kinds=("I32",))
    if rows % (32 // bits):
        raise CheckpointError(f"{qzeros.path}: {qzeros.name}: {rows} rows do not fill whole words")
    expect_shape(qzeros, scales.shape[0], rows * bits // 32)
    refuse_permuted(parts, "g_idx", columns=columns, groups=scales.shape[0])
    return GptqFile(qweight, qzeros, scales, bits, symmetric, zeros_added)


def _scales(parts: Parts, rows: int, columns: int) -> StoredTensor:
    scales = part(parts, "scales", kinds=FLOATS)
    groups = scales.shape[0] if scales.shape else 0
    if groups < 1 or columns % groups:
        raise CheckpointError(f"{scales.path}: {scales.name} has {groups} groups for {columns} columns")
    expect_shape(scales, groups, rows)
    return scales


def _across(stored: StoredTensor, first: int, last: int, *, item: int) -> torch.Tensor:
    """Columns [first, last) of a stored [R, C] with items of so many bytes: [R, bytes] uint8."""
    count, width = stored.shape
    return read_strips(stored, first=first * item, width=(last - first) * item, stride=width * item, strips=count)
