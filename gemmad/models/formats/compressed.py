"""compressed-tensors, as llm-compressor and transformers write it (https://github.com/vllm-project/compressed-tensors).

| format | tensors of a module |
|---|---|
| `pack-quantized` | `weight_packed` [N, K · bits / 32] int32, code + middle, in order; `weight_scale` [N, G]; perhaps `weight_zero_point` [N · bits / 32, G] int32, packed down the rows; `weight_shape`; perhaps `weight_g_idx` |
| `int-quantized`, `naive-quantized` | `weight` [N, K] int8, `weight_scale` [N, 1] or [1], perhaps `weight_zero_point` int8 |
| `float-quantized` | `weight` [N, K] e4m3 and `weight_scale`; also transformers' own `fp8`, with `weight_scale_inv` |

What a module is, its tensors tell; so `ignore` and groups of modules need not be understood. Scales of activations are
for kernels that quantise those too, which gemmad does not; they are not read.
"""  # noqa: E501 (a table's row is a line)

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from gemmad.errors import CheckpointError
from gemmad.kernels.matrices import BLOCK, CodedKind, CodedMatrix
from gemmad.models.formats.codes import nibbles, pack8
from gemmad.models.formats.integers import Int4Matrix, Int8Matrix, IntegerNumbers, IntegerRows, integer_source
from gemmad.models.formats.reading import read_bytes
from gemmad.models.formats.stored import FLOATS, Parts, expect_shape, part, read_whole, refuse_permuted
from gemmad.models.tensorfile import StoredTensor

Source: TypeAlias = "Int4Matrix | Int8Matrix | IntegerNumbers | Fp8Matrix | Fp8Numbers"

MARKS = ("weight_packed", "weight_scale", "weight_scale_inv")
"""A module with codes has one of these."""


def compressed_source(parts: Parts, rows: int, columns: int) -> Source:
    """A module's matrix. Raises CheckpointError for tensors that do not belong together or of other formats."""
    if "weight_packed" in parts:
        return integer_source(_packed(parts, rows, columns))
    weight = part(parts, "weight", kinds=("I8", "F8_E4M3"))
    expect_shape(weight, rows, columns)
    word = "weight_scale" if "weight_scale" in parts else "weight_scale_inv"
    scale = part(parts, word, kinds=FLOATS)
    grid = _grid(scale, rows, columns)
    if weight.kind == "I8" and grid[0] in (1, rows):
        return integer_source(_Bytes(weight, scale, grid, _zero_points(parts, scale)))
    if weight.kind == "I8":
        raise CheckpointError(f"{scale.path}: {scale.name} is {list(scale.shape)}: int8 in blocks of rows is not read")
    if grid[1] == 1 and grid[0] in (1, rows) and columns % BLOCK == 0:
        return Fp8Matrix(weight, scale, per_row=grid[0] == rows)
    return Fp8Numbers(weight, scale, grid)


@dataclass(frozen=True)
class _Packed:
    """An `IntegerFile` of `pack-quantized`."""

    packed: StoredTensor
    scale: StoredTensor
    zero_point: StoredTensor | None
    shape: tuple[int, int]
    bits: int

    @property
    def name(self) -> str:
        return f"{self.packed.path}: {self.packed.name}"

    @property
    def groups(self) -> int:
        return self.scale.shape[1]

    @property
    def has_zeros(self) -> bool:
        return self.zero_point is not None

    @property
    def scale_dtype(self) -> torch.dtype:
        return FLOATS[self.scale.kind]

    def rows(self, start: int, stop: int, device: torch.device) -> IntegerRows:
        held = _row_bytes(self.packed, start, stop).to(device)
        codes = nibbles(held) if self.bits == 4 else held
        scales = _row_bytes(self.scale, start, stop).to(device).view(self.scale_dtype)
        zeros = None if self.zero_point is None else self._zeros(self.zero_point, start, stop, device)
        return IntegerRows(codes, scales, zeros)

    def _zeros(self, stored: StoredTensor, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """[N · bits / 32, G] words in the file → [stop - start, G] uint8."""
        per_word = 32 // self.bits
        first, last = start // per_word, -(-stop // per_word)
        held = _row_bytes(stored, first, last).to(device).view(last - first, self.groups, 4)
        fields = (nibbles(held) if self.bits == 4 else held).transpose(1, 2).flatten(0, 1)
        return fields[start - per_word * first : stop - per_word * first].contiguous()


def _packed(parts: Parts, rows: int, columns: int) -> _Packed:
    packed = part(parts, "weight_packed", kinds=("I32",))
    if len(packed.shape) != 2 or packed.shape[1] * 32 not in (4 * columns, 8 * columns):
        found = list(packed.shape)
        raise CheckpointError(f"{packed.path}: {packed.name} is {found}, no {columns} codes of 4 or 8 bits a row")
    bits = packed.shape[1] * 32 // columns
    expect_shape(packed, rows, columns * bits // 32)
    scale = part(parts, "weight_scale", kinds=FLOATS)
    grid = _grid(scale, rows, columns)
    expect_shape(scale, rows, grid[1])
    zero_point = None
    if "weight_zero_point" in parts:
        zero_point = part(parts, "weight_zero_point", kinds=("I32",))
        expect_shape(zero_point, -(-rows * bits // 32), grid[1])
    if "weight_shape" in parts:
        told = part(parts, "weight_shape", kinds=("I64", "I32"))
        expect_shape(told, 2)
        if read_whole(told).tolist() != [rows, columns]:
            raise CheckpointError(f"{told.path}: {told.name} is not {[rows, columns]}, which is what fits config.json")
    refuse_permuted(parts, "weight_g_idx", columns=columns, groups=grid[1])
    return _Packed(packed, scale, zero_point, (rows, columns), bits)


@dataclass(frozen=True)
class _Bytes:
    """An `IntegerFile` of int8 in whole bytes."""

    weight: StoredTensor
    scale: StoredTensor
    grid: tuple[int, int]
    """Scales down the rows and along them."""
    zero_points: torch.Tensor | None
    """In the grid's shape, int8."""
    bits: int = 8

    @property
    def name(self) -> str:
        return f"{self.weight.path}: {self.weight.name}"

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.weight.shape
        return rows, columns

    @property
    def groups(self) -> int:
        return self.grid[1]

    @property
    def has_zeros(self) -> bool:
        return self.zero_points is not None

    @property
    def scale_dtype(self) -> torch.dtype:
        return FLOATS[self.scale.kind]

    def rows(self, start: int, stop: int, device: torch.device) -> IntegerRows:
        codes = _row_bytes(self.weight, start, stop).to(device) ^ 0x80
        scales = _scale_rows(self.scale, self.grid, start, stop).to(device)
        if self.zero_points is None:
            return IntegerRows(codes, scales, None)
        held = self.zero_points.view(torch.uint8).view(self.grid) ^ 0x80
        zeros = held.expand(self.shape[0], -1)[start:stop] if self.grid[0] == 1 else held[start:stop]
        return IntegerRows(codes, scales, zeros.to(device))


def _zero_points(parts: Parts, scale: StoredTensor) -> torch.Tensor | None:
    """None also where all of them are 0, as some writers have it for symmetric codes."""
    if "weight_zero_point" not in parts:
        return None
    stored = part(parts, "weight_zero_point", kinds=("I8",))
    expect_shape(stored, *scale.shape)
    held = read_whole(stored)
    return held if bool(held.any()) else None


@dataclass(frozen=True)
class Fp8Matrix:
    """A `MatrixSource` of e4m3 with a scale for each row, or one for all."""

    weight: StoredTensor
    scale: StoredTensor
    per_row: bool
    kind: CodedKind = field(default="fp8", init=False)
    has_offsets: bool = field(default=False, init=False)
    scale_dtype: torch.dtype = field(default=torch.float32, init=False)

    @property
    def name(self) -> str:
        return f"{self.weight.path}: {self.weight.name}"

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.weight.shape
        return rows, columns

    @property
    def group(self) -> int:
        return self.shape[1]

    def read(self, start: int, stop: int, device: torch.device) -> CodedMatrix:
        codes = _row_bytes(self.weight, start, stop).to(device)
        scales = _scale_rows(self.scale, (self.shape[0] if self.per_row else 1, 1), start, stop)
        return CodedMatrix("fp8", pack8(codes), scales.to(device).float().view(1, -1))


@dataclass(frozen=True)
class Fp8Numbers:
    """A `RowSource` of e4m3 with scales for blocks of rows and columns."""

    weight: StoredTensor
    scale: StoredTensor
    grid: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.weight.path}: {self.weight.name}"

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.weight.shape
        return rows, columns

    def read(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        codes = _row_bytes(self.weight, start, stop).to(device).view(torch.float8_e4m3fn).float()
        scales = _scale_rows(self.scale, self.grid, start, stop, rows=self.shape[0]).to(device).float()
        return (codes.view(stop - start, self.grid[1], -1) * scales[:, :, None]).view(stop - start, -1)


def _grid(scale: StoredTensor, rows: int, columns: int) -> tuple[int, int]:
    """How many scales there are down the rows and along them. A tensor's one scale is stored without dimensions too."""
    down, along = {0: (1, 1), 1: (*scale.shape, 1), 2: scale.shape}.get(len(scale.shape), (0, 0))
    if down < 1 or along < 1 or rows % down or columns % along:
        raise CheckpointError(f"{scale.path}: {scale.name} is {list(scale.shape)} for a matrix of {[rows, columns]}")
    return down, along


def _row_bytes(stored: StoredTensor, start: int, stop: int) -> torch.Tensor:
    """Rows [start, stop) of a stored [R, C]: [rows, bytes] uint8 on the CPU."""
    width = stored.nbytes // stored.shape[0]
    return read_bytes(stored, start * width, (stop - start) * width).view(stop - start, width)


def _scale_rows(
    scale: StoredTensor, grid: tuple[int, int], start: int, stop: int, *, rows: int | None = None
) -> torch.Tensor:
    """[stop - start, grid's second]. `rows`: of the matrix, where it has more of them than the grid."""
    down, along = grid
    if down == 1:
        return read_whole(scale).view(1, along).expand(stop - start, along)
    tall = (rows or down) // down
    first, last = start // tall, -(-stop // tall)
    item = scale.nbytes // (down * along)
    held = read_bytes(scale, first * along * item, (last - first) * along * item)
    scales = held.view(FLOATS[scale.kind]).view(last - first, along)
    return scales.repeat_interleave(tall, 0)[start - tall * first : stop - tall * first]
