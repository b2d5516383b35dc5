"""Pixels that came as a sealed memfd, seen without a copy."""

from __future__ import annotations

import mmap
import os

import torch


def map_pictures(fds: list[int], *, height: int, width: int) -> tuple[torch.Tensor, ...]:
    """All of a request's pictures, in order. Every descriptor is closed, whatever happens.

    Raises ValueError when one is of another size.
    """
    try:
        return tuple(_map(fd, height=height, width=width) for fd in fds)
    finally:
        for fd in fds:
            os.close(fd)


def _map(fd: int, *, height: int, width: int) -> torch.Tensor:
    """[height, width, 3] uint8 over the memory of `fd`, which may be closed: the memory lives as long as the tensor."""
    size = os.fstat(fd).st_size
    if size != height * width * 3:
        raise ValueError(f"an image of {size} bytes came, {height}×{width}×3 are expected")
    memory = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return torch.frombuffer(memory, dtype=torch.uint8).view(height, width, 3)
