"""How a piece of work is recorded once and replayed in every step: as a CUDA graph, or by simply doing it again.

The second way computes the same with the same buffers on any device; it is how a graph runner's buckets, feeds and
padding are held to the truth where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Work = Callable[[], None]
"""Reads and writes tensors that stay where they are; allocates what it likes in between."""


class Event(Protocol):
    """A moment on the device."""

    def record(self) -> None:
        """It comes when all that was launched before is done."""

    def synchronize(self) -> None:
        """Wait for it."""


class Recorder(Protocol):
    """Records work for replay, one after the other, on the thread's current stream."""

    def record(self, work: Work) -> Work:
        """What replays `work`."""

    def event(self) -> Event:
        """A new event."""

    def host_buffer(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """[count] on the host, where the device can reach it by itself."""

    def settle(self) -> None:
        """Wait for the device, and give back what only recording needed."""


class GraphRecorder:
    """CUDA graphs that share one memory pool: no two run at the same time, and what one leaves there is nobody's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Work) -> Work:
        """Capture `work`, every kernel of which must have run before."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        return graph.replay

    def event(self) -> Event:
        """A CUDA event."""
        event: Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        return event

    def host_buffer(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Pinned and zero."""
        return torch.zeros(count, dtype=dtype, pin_memory=True)

    def settle(self) -> None:
        """Blocks that only the runs before the captures needed go back to the device."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()


class RepeatRecorder:
    """Replays by doing the work again, at once."""

    def record(self, work: Work) -> Work:
        """`work` itself."""
        return work

    def event(self) -> Event:
        """One that has always come."""
        return _Now()

    def host_buffer(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Zero."""
        return torch.zeros(count, dtype=dtype)

    def settle(self) -> None:
        """Nothing is under way."""


class _Now:
    def record(self) -> None:
        """Nothing is under way."""

    def synchronize(self) -> None:
        """It has come."""
