"""Samples that tests are made of."""

from __future__ import annotations

from typing import Any

from gemmad.monitor.sample import MemorySample

GIB = 1 << 30
T0 = 1_800_000_000.0
"""A moment, in seconds since the epoch."""


def sample(at: float = T0, worker: str = "gpu0", **fields: Any) -> MemorySample:
    """A worker of a GPU that is well, or as `fields` say."""
    usual: dict[str, Any] = {
        "life": 1,
        "state": "ready",
        "gpu": "GPU-1",
        "planned_bytes": 72 * GIB,
        "reserved_bytes": 70 * GIB,
        "allocated_bytes": 69 * GIB,
        "above_baseline_bytes": 0,
        "full_pages": 1000,
        "full_pages_used": 200,
        "sliding_pages": 100,
        "sliding_pages_used": 10,
        "kv_bytes": 10 * GIB,
        "host_rss_bytes": 3 * GIB,
        "gpu_used_bytes": 71 * GIB,
        "gpu_total_bytes": 80 * GIB,
        "gpu_planned_bytes": 72 * GIB,
    }
    return MemorySample(at=at, worker=worker, **(usual | fields))
