"""From the rooms' own counts to what Prometheus is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gemmad.dispatch.counts import DispatchStatus
from gemmad.grammar.room import GrammarRoom
from gemmad.media.pool import MediaPool
from gemmad.metrics import AlertReading, ConfigReading, GpuReading, Reading, RoomReading, WorkerReading
from gemmad.monitor.alert import Alert
from gemmad.supervisor.gauges import GpuGauge
from gemmad.supervisor.wishes import WorkerStatus


def reading(
    version: str,
    dispatch: DispatchStatus,
    workers: Sequence[WorkerStatus],
    *,
    config: ConfigReading,
    waiting_limit: int | None = None,
    rooms: Mapping[str, MediaPool | GrammarRoom | None] | None = None,
    gpus: Sequence[GpuGauge] = (),
    alerts: Sequence[Alert] = (),
) -> Reading:
    """One look at everything. `rooms` by name; None for one that is not there."""
    return Reading(
        version=version,
        running=dispatch.running,
        waiting=dispatch.waiting,
        waiting_limit=waiting_limit,
        refused=dispatch.counts.refused,
        prompt_tokens=dispatch.counts.prompt_tokens,
        generated_tokens=dispatch.counts.generated_tokens,
        failovers=dispatch.counts.failovers,
        quarantined=dispatch.counts.quarantined,
        workers=tuple(_worker(worker) for worker in workers),
        gpus=tuple(GpuReading(**msgspec.structs.asdict(gauge)) for gauge in gpus),
        rooms=tuple(_room(name, room) for name, room in (rooms or {}).items() if room is not None),
        alerts=tuple(AlertReading(level=each.level, about=each.about, worker=each.worker or "") for each in alerts),
        config=config,
    )


def _worker(status: WorkerStatus) -> WorkerReading:
    load, capacity, totals = status.load, status.capacity, status.totals
    told = WorkerReading(
        name=status.name,
        state=status.state.value,
        device=status.device,
        gpu_uuid=status.gpu or "",
        starts=max(totals.lives, status.life),
        requests=totals.requests,
        steps=totals.steps,
        generated_tokens=totals.generated_tokens,
        prefilled_tokens=totals.prefilled_tokens,
        preemptions=totals.preemptions,
        prompt_tokens=totals.prompt_tokens,
        cached_tokens=totals.cached_tokens,
        restarts=totals.restarts,
        recycles=totals.recycles,
        failed_recycles=totals.failed_recycles,
    )
    if load is None:
        return told
    told = msgspec.structs.replace(
        told, running=load.running, kv_usage_ratio=status.kv_usage, host_rss_bytes=load.host_rss_bytes
    )
    if capacity is not None:
        told = msgspec.structs.replace(
            told,
            kv_pages={"full": capacity.full_pages, "sliding": capacity.sliding_pages},
            kv_pages_used={"full": load.full_pages_used, "sliding": load.sliding_pages_used},
        )
    return told if status.device == "cpu" else _with_device_memory(told, status)


def _with_device_memory(told: WorkerReading, status: WorkerStatus) -> WorkerReading:
    """A worker on a CPU has none: what it plans of the host's memory is no GPU's."""
    assert status.load is not None
    return msgspec.structs.replace(
        told,
        planned_bytes=sum(row.planned_bytes for row in status.memory) if status.memory else None,
        reserved_bytes=status.load.device_bytes,
        allocated_bytes=status.load.device_allocated_bytes,
        above_baseline_bytes=status.above_baseline_bytes,
        device_segments=status.load.device_segments,
    )


def _room(name: str, room: MediaPool | GrammarRoom) -> RoomReading:
    status = room.status()
    return RoomReading(name=name, busy=status.busy, waiting=status.waiting, deaths=status.deaths)
