"""From the rooms' own counts to what Prometheus is told."""

from __future__ import annotations

from collections.abc import Sequence

from gemmad.dispatch.counts import DispatchStatus
from gemmad.metrics import Reading, WorkerReading
from gemmad.supervisor.wishes import WorkerStatus


def reading(
    version: str, dispatch: DispatchStatus, workers: Sequence[WorkerStatus], *, config_is_good: bool
) -> Reading:
    """One look at everything."""
    return Reading(
        version=version,
        running=dispatch.running,
        waiting=dispatch.waiting,
        prompt_tokens=dispatch.counts.prompt_tokens,
        generated_tokens=dispatch.counts.generated_tokens,
        failovers=dispatch.counts.failovers,
        workers=tuple(_worker(worker) for worker in workers),
        config_is_good=config_is_good,
    )


def _worker(status: WorkerStatus) -> WorkerReading:
    load = status.load
    if load is None:
        return WorkerReading(name=status.name, state=status.state.value, starts=status.life)
    return WorkerReading(
        name=status.name,
        state=status.state.value,
        starts=status.life,
        kv_usage_ratio=_kv_usage(status),
        preemptions=load.preemptions,
        host_rss_bytes=load.host_rss_bytes,
        device_bytes=load.device_bytes,
    )


def _kv_usage(status: WorkerStatus) -> float | None:
    """Of the fuller of the two page pools."""
    load, capacity = status.load, status.capacity
    if load is None or capacity is None:
        return None
    full = load.full_pages_used / max(1, capacity.full_pages)
    return max(full, load.sliding_pages_used / max(1, capacity.sliding_pages))
