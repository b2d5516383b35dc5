"""The reference's logits, whole and as the network gave them, in a file: one network is in memory at a time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Self

import torch

from gemmad.errors import MemoryPlanError
from gemmad.planning.sizes import format_bytes

_SPARE_BYTES = 256 << 20
"""Of the disk, for others."""


def require_room(folder: Path, nbytes: int) -> None:
    """Raises MemoryPlanError where the disk lacks so much."""
    free = shutil.disk_usage(folder).free
    if nbytes + _SPARE_BYTES > free:
        raise MemoryPlanError(
            f"the reference's logits take {format_bytes(nbytes)} and {folder} has {format_bytes(free)}: ask for fewer "
            "--tokens, or name another folder with --scratch"
        )


class Truth:
    """Rows of logits [V], written once in order, then read in the same order by each that is compared."""

    def __init__(self, path: Path, *, vocab_size: int) -> None:
        """`path` is made anew, and is whoever calls' to remove."""
        self._vocab_size = vocab_size
        self._dtype: torch.dtype | None = None
        self._file = path.open("w+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, logits: torch.Tensor) -> None:
        """The next rows, [R, V]; all of one dtype."""
        assert self._dtype in (None, logits.dtype), "one network has one dtype"
        self._dtype = logits.dtype
        self._file.write(_bytes(logits.cpu().contiguous()))

    def rewind(self) -> None:
        """Read from the first row on."""
        self._file.seek(0)

    def read(self, rows: int) -> torch.Tensor:
        """The next so many, on the host."""
        assert self._dtype is not None, "it is written before it is read"
        logits = torch.empty(rows, self._vocab_size, dtype=self._dtype)
        count = self._file.readinto(_bytes(logits))
        assert count == logits.nbytes, "every run scores the same tokens"
        return logits

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def _bytes(tensor: torch.Tensor) -> Any:
    """A buffer over its memory; numpy has no bfloat16, so it sees bytes."""
    return tensor.flatten().view(torch.uint8).numpy()
