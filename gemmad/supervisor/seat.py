"""A place on a device where one worker after another lives."""

from __future__ import annotations

from msgspec import Struct


class Seat(Struct, frozen=True):
    """One for each GPU and worker on it, or for each CPU worker."""

    name: str
    """What operators call the worker: gpu0, gpu0.1, gpu0:1 on a slice, cpu0."""
    device: str
    """As torch names it inside the worker, whose CUDA_VISIBLE_DEVICES is narrowed to its GPU."""
    env: dict[str, str]
    """Variables of the worker's process beyond the daemon's own."""
    threads: int | None = None
    """Threads to compute with, on a CPU seat."""
    gpu: str | None = None
    """UUID of the GPU or slice that it is on; the name that was asked for as long as no GPU answers to it."""
    cpus: tuple[int, ...] = ()
    """Processors that it runs on: those beside its GPU. None: wherever the daemon may."""
