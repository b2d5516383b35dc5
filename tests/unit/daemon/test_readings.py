"""From what the rooms count to what Prometheus is told."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from gemmad.config.schema import MediaSection
from gemmad.daemon.readings import reading
from gemmad.dispatch.counts import Counts, DispatchStatus
from gemmad.generation import EngineLoad, MemoryRow
from gemmad.media.pool import MediaPool
from gemmad.media.spec import ImageSpec
from gemmad.metrics import AlertReading, ConfigReading, GpuReading, RoomReading, WorkerReading
from gemmad.monitor.alert import Alert
from gemmad.supervisor.gauges import GpuGauge
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Outlook
from gemmad.supervisor.tally import WorkerTotals
from gemmad.supervisor.wishes import WorkerStatus
from tests.fakes.child import CAPACITY
from tests.unit.supervisor.stage import HELLO, Stage, play

DISPATCH = DispatchStatus(
    waiting=0,
    running=0,
    workers_ready=1,
    outlook=Outlook.SERVING,
    draining=False,
    tokens_per_second=0.0,
    service_seconds=1.0,
    counts=Counts(),
)


def status() -> WorkerStatus:
    """A worker's that has just begun to load."""
    seen: list[WorkerStatus] = []

    async def script(stage: Stage) -> None:
        stage.child.say(HELLO)
        seen.append(stage.status)

    play(script)
    return seen[0]


def told(**changes: Any) -> WorkerReading:
    """What is told of such a worker."""
    worker = msgspec.structs.replace(status(), **changes)
    return reading("1", DISPATCH, [worker], config=ConfigReading()).workers[0]


def test_memory_of_a_gpu_worker() -> None:
    """Its plan is the sum of its rows; what its allocator holds, has handed out and took anew come with the load."""
    rows = (MemoryRow("weights", 5, 4), MemoryRow("reserve", 2))
    load = EngineLoad(device_bytes=9, device_allocated_bytes=8, device_segments=3)
    worker = told(device="cuda:0", gpu="GPU-1", state=State.READY, load=load, memory=rows, above_baseline_bytes=2)
    assert (worker.planned_bytes, worker.reserved_bytes, worker.allocated_bytes) == (7, 9, 8)
    assert (worker.above_baseline_bytes, worker.device_segments, worker.gpu_uuid) == (2, 3, "GPU-1")


def test_a_cpu_worker_has_no_device_memory() -> None:
    """What it plans of the host's memory is no GPU's."""
    worker = told(state=State.READY, load=EngineLoad(host_rss_bytes=5), memory=(MemoryRow("weights", 5, 4),))
    assert worker.host_rss_bytes == 5
    assert worker.planned_bytes is worker.reserved_bytes is worker.device_segments is None


def test_a_worker_between_two_lives() -> None:
    """What is of a process is not told without one; what was counted is."""
    totals = WorkerTotals(
        lives=3,
        requests=4,
        steps=5,
        generated_tokens=6,
        prefilled_tokens=7,
        prompt_tokens=9,
        cached_tokens=8,
        preemptions=1,
        restarts={"crash": 2},
        recycles={"asked": 1},
        failed_recycles={"asked": 0},
    )
    worker = told(state=State.BACKOFF, life=3, totals=totals)
    assert worker == WorkerReading(
        name="cpu0",
        state="backoff",
        device="cpu",
        starts=3,
        requests=4,
        steps=5,
        generated_tokens=6,
        prefilled_tokens=7,
        prompt_tokens=9,
        cached_tokens=8,
        preemptions=1,
        restarts={"crash": 2},
        recycles={"asked": 1},
        failed_recycles={"asked": 0},
    )


def test_pages() -> None:
    """Both pools are told with what is used of them, and how full the fuller one is."""
    load = EngineLoad(running=2, full_pages_used=1, sliding_pages_used=3)
    worker = told(
        state=State.READY, load=load, capacity=msgspec.structs.replace(CAPACITY, full_pages=4, sliding_pages=4)
    )
    assert (worker.running, worker.kv_usage_ratio) == (2, 0.75)
    assert worker.kv_pages == {"full": 4, "sliding": 4}
    assert worker.kv_pages_used == {"full": 1, "sliding": 3}


def test_what_is_not_a_worker() -> None:
    """The queue's bound, GPUs, alerts and rooms are told as they are now."""
    counts = dataclasses.replace(Counts(), refused=2)
    gauge = GpuGauge(uuid="GPU-1", label="0", name="NVIDIA H200", utilisation=0.5)
    alert = Alert(
        level="warning", about="host", worker=None, share=0.9, words="it is full", action="wait", since_seconds=1.0
    )
    media = MediaPool(ImageSpec(height=8, width=8), section=MediaSection, processes=1, memory_bytes=1)
    seen = reading(
        "1",
        msgspec.structs.replace(DISPATCH, counts=counts),
        [],
        config=ConfigReading(),
        waiting_limit=9,
        rooms={"media": media, "grammar": None},
        gpus=[gauge],
        alerts=[alert],
    )
    assert (seen.waiting_limit, seen.refused) == (9, 2)
    assert seen.gpus == (GpuReading(uuid="GPU-1", label="0", name="NVIDIA H200", utilisation=0.5),)
    assert seen.alerts == (AlertReading(level="warning", about="host"),)
    assert seen.rooms == (RoomReading(name="media"),)
