"""Bytes of stored tensors, read where they are asked for: nothing is mapped, nothing stays open.

A mapped file that somebody cuts off kills the process that looks into it; a read ends early, and that can be told.
"""

from __future__ import annotations

import os

import torch

from gemmad.errors import CheckpointError
from gemmad.models.tensorfile import StoredTensor


def read_bytes(stored: StoredTensor, first: int = 0, count: int | None = None) -> torch.Tensor:
    """`count` bytes of a tensor (None: all that are left) from its byte `first` on, [count] uint8 on the CPU.

    Raises CheckpointError for a file that cannot be read or has become shorter.
    """
    count = stored.nbytes - first if count is None else count
    return read_strips(stored, first=first, width=count, stride=count, strips=1)[0]


def read_strips(stored: StoredTensor, *, first: int, width: int, stride: int, strips: int) -> torch.Tensor:
    """`width` bytes from every `stride`-th byte on, the first of them at `first`: [strips, width] uint8 on the CPU."""
    assert first >= 0 <= width <= stride, "strips lie side by side"
    assert strips == 0 or first + stride * (strips - 1) + width <= stored.nbytes, "a tensor is read within its bounds"
    if width == stride and strips > 1:
        return read_strips(stored, first=first, width=width * strips, stride=width * strips, strips=1).view(strips, -1)
    held = torch.empty(strips, width, dtype=torch.uint8)
    if not held.numel():
        return held
    try:
        file = os.open(stored.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for strip, memory in enumerate(held.numpy()):
                _fill(stored, file, memory.data, stored.start + first + strip * stride)
        finally:
            os.close(file)
    except OSError as error:
        raise CheckpointError(f"{stored.path} cannot be read: {error.strerror}") from error
    return held


def _fill(stored: StoredTensor, file: int, memory: memoryview, offset: int) -> None:
    done = 0
    while done < len(memory):
        count = os.preadv(file, [memory[done:]], offset + done)
        if count == 0:
            raise CheckpointError(f"{stored.path} has become shorter: {stored.name} cannot be read from it")
        done += count
