"""Integer codes with a scale, and perhaps a zero point, for each row and group of columns.

However a file orders its bits, a number of the weight is `scale · (code - zero)`, codes and zeros being unsigned; where
there are no zeros, zero is the middle, 8 or 128. In gemmad's layout that is `scale · (code - 8) + offset` with
`offset = scale · (8 - zero)`, rounded once to the scales' dtype. Codes and scales are kept as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch

from gemmad.kernels.matrices import CodedKind, CodedMatrix
from gemmad.models.formats.codes import layout_group, pack4, pack8, spread_scales


@dataclass(frozen=True)
class IntegerRows:
    """Some rows of a matrix [N, K], on a device."""

    codes: torch.Tensor
    """[N, K] uint8."""
    scales: torch.Tensor
    """[N, G] of a floating dtype."""
    zeros: torch.Tensor | None
    """[N, G] uint8; None: all are the middle."""


class IntegerFile(Protocol):
    """A matrix [N, K] in a file."""

    @property
    def name(self) -> str:
        """With the file: for messages."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        ...

    @property
    def bits(self) -> int:
        """Of a code: 4 or 8."""
        ...

    @property
    def groups(self) -> int:
        """Scales of a row."""
        ...

    @property
    def has_zeros(self) -> bool:
        """Whether `rows` gives zeros."""
        ...

    @property
    def scale_dtype(self) -> torch.dtype:
        """Of the scales."""
        ...

    def rows(self, start: int, stop: int, device: torch.device) -> IntegerRows:
        """Rows [start, stop) on the device. Raises CheckpointError for a file that cannot be read."""
        ...


def integer_source(file: IntegerFile) -> Int4Matrix | Int8Matrix | IntegerNumbers:
    """A matrix that is kept as it is where the layout has room for it, else its numbers."""
    groups, columns = file.groups, file.shape[1]
    group = layout_group(columns, groups)
    scales_fit = file.scale_dtype in (torch.float16, torch.bfloat16, torch.float32)
    if file.bits == 4 and group is not None and scales_fit:
        return Int4Matrix(file, group)
    if file.bits == 8 and groups == 1 and not file.has_zeros and group is not None:
        return Int8Matrix(file)
    return IntegerNumbers(file)


@dataclass(frozen=True)
class Int4Matrix:
    """A `MatrixSource` of int4."""

    file: IntegerFile
    group: int
    kind: CodedKind = field(default="int4", init=False)

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def shape(self) -> tuple[int, int]:
        return self.file.shape

    @property
    def has_offsets(self) -> bool:
        return self.file.has_zeros

    @property
    def scale_dtype(self) -> torch.dtype:
        return self.file.scale_dtype

    def read(self, start: int, stop: int, device: torch.device) -> CodedMatrix:
        rows, columns = self.file.rows(start, stop, device), self.shape[1]
        offsets = None
        if rows.zeros is not None:
            exact = rows.scales.float() * (8.0 - rows.zeros.float())
            offsets = spread_scales(exact.to(rows.scales.dtype), columns, self.group)
        return CodedMatrix("int4", pack4(rows.codes), spread_scales(rows.scales, columns, self.group), offsets)


@dataclass(frozen=True)
class Int8Matrix:
    """A `MatrixSource` of int8."""

    file: IntegerFile
    kind: CodedKind = field(default="int8", init=False)
    has_offsets: bool = field(default=False, init=False)
    scale_dtype: torch.dtype = field(default=torch.float32, init=False)

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def shape(self) -> tuple[int, int]:
        return self.file.shape

    @property
    def group(self) -> int:
        return self.shape[1]

    def read(self, start: int, stop: int, device: torch.device) -> CodedMatrix:
        rows = self.file.rows(start, stop, device)
        return CodedMatrix("int8", pack8(rows.codes ^ 0x80), rows.scales.float().t().contiguous())


@dataclass(frozen=True)
class IntegerNumbers:
    """A `RowSource`: codes that the layout has no room for, as numbers."""

    file: IntegerFile

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def shape(self) -> tuple[int, int]:
        return self.file.shape

    def read(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        rows, columns = self.file.rows(start, stop, device), self.shape[1]
        codes = rows.codes.view(stop - start, self.file.groups, -1).float()
        zeros = float(1 << (self.file.bits - 1)) if rows.zeros is None else rows.zeros.float()[:, :, None]
        return ((codes - zeros) * rows.scales.float()[:, :, None]).view(stop - start, columns)
