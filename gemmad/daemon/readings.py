"""From the rooms' own counts to what Prometheus is told."""

from __future__ import annotations

from collections.abc import Sequence

from gemmad.dispatch.counts import DispatchStatus
from gemmad.metrics import ConfigReading, Reading, WorkerReading
from gemmad.supervisor.wishes import WorkerStatus


def reading(
    version: str, dispatch: DispatchStatus, workers: Sequence[WorkerStatus], *, config: ConfigReading
) -> Reading:
    """One look at everything."""
    return Reading(
        version=version,
        running=dispatch.running,
        waiting=dispatch.waiting,
        prompt_tokens=dispatch.counts.prompt_tokens,
        generated_tokens=dispatch.counts.generated_tokens,
        failovers=dispatch.counts.failovers,
        quarantined=dispatch.counts.quarantined,
        workers=tuple(_worker(worker) for worker in workers),
        config=config,
    )


def _worker(status: WorkerStatus) -> WorkerReading:
    load = status.load
    if load is None:
        return WorkerReading(name=status.name, state=status.state.value, starts=status.life)
    return WorkerReading(
        name=status.name,
        state=status.state.value,
        starts=status.life,
        kv_usage_ratio=status.kv_usage,
        preemptions=load.preemptions,
        prompt_tokens=load.prompt_tokens,
        cached_tokens=load.cached_tokens,
        host_rss_bytes=load.host_rss_bytes,
        device_bytes=load.device_bytes,
        device_segments=load.device_segments,
        planned_bytes=sum(row.planned_bytes for row in status.memory) if status.device != "cpu" else 0,
    )
