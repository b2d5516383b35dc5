"""What a checkpoint that comes quantised offers to whoever loads it: row ranges of each matrix, in gemmad's layout.

Every tensor of the network is in exactly one of three places of a `CodedCheckpoint`: `coded` (codes that are kept as
they are), `decoded` (numbers in a layout that gemmad does not compute with: float32 rows, for the loader to code again
or to keep), `plain` (to be read as of any other checkpoint). Names are those of `models.weights`' targets
(`layers.3.self_attn.q_proj.weight`, `embed_tokens.weight`, `vision_tower.…`); the names of `plain` are as in the file.
`gemmad.models.formats.opening.open_coded` looks into a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from gemmad.kernels.matrices import CodedKind, CodedMatrix
from gemmad.models.tensorfile import StoredTensor


class MatrixSource(Protocol):
    """A matrix [N, K] whose codes a file holds. Reading keeps nothing open, and may be done in several threads."""

    @property
    def name(self) -> str:
        """As the file calls it, with the file: for messages."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        ...

    @property
    def kind(self) -> CodedKind:
        """Of the codes."""
        ...

    @property
    def group(self) -> int:
        """Columns that one scale serves: 32, 64 or 128 of int4, else K."""
        ...

    @property
    def has_offsets(self) -> bool:
        """Whether there are offsets beside the scales."""
        ...

    @property
    def scale_dtype(self) -> torch.dtype:
        """Of scales and offsets: float16, bfloat16 or float32 of int4, else float32."""
        ...

    def read(self, start: int, stop: int, device: torch.device) -> CodedMatrix:
        """Rows [start, stop) on the device. Host memory taken on the way: about three times their bytes in the file.

        Raises CheckpointError for a file that cannot be read or has changed.
        """
        ...


class RowSource(Protocol):
    """A tensor whose numbers must be computed from what a file holds. Reading keeps nothing open."""

    @property
    def name(self) -> str:
        """As the file calls it, with the file: for messages."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor; `read` cuts its first dimension."""
        ...

    def read(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """Rows [start, stop), float32, on the device. Raises CheckpointError as `MatrixSource.read` does."""
        ...


@dataclass(frozen=True)
class CodedCheckpoint:
    """All tensors of a checkpoint some of whose matrices are coded.

    Parts that lie in one merged matrix (q, k and v; gate and up) are either all in `coded`, with the same kind, group,
    offsets and scale dtype, or none of them is.
    """

    coded: Mapping[str, MatrixSource]
    decoded: Mapping[str, RowSource] = field(default_factory=dict)
    plain: tuple[StoredTensor, ...] = ()
    norms_hold_one: bool = False
    """Whether the language network's norms already hold Gemma's `1 + w` (llama.cpp's files do)."""
