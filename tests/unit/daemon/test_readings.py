"""From what the rooms count to what Prometheus is told."""

from __future__ import annotations

import msgspec

from gemmad.daemon.readings import reading
from gemmad.dispatch.counts import Counts, DispatchStatus
from gemmad.generation import EngineLoad, MemoryRow
from gemmad.metrics import ConfigReading
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Outlook
from gemmad.supervisor.wishes import WorkerStatus
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


def test_memory_of_a_gpu_worker() -> None:
    """Its plan is the sum of its rows; what its allocator holds, and how many segments it took, come with the load."""
    rows = (MemoryRow("weights", 5, 4), MemoryRow("reserve", 2))
    load = EngineLoad(device_bytes=9, device_segments=3)
    worker = msgspec.structs.replace(status(), device="cuda:0", state=State.READY, load=load, memory=rows)
    (told,) = reading("1", DISPATCH, [worker], config=ConfigReading()).workers
    assert (told.planned_bytes, told.device_bytes, told.device_segments) == (7, 9, 3)


def test_a_cpu_worker_has_no_device_memory() -> None:
    """What it plans of the host's memory is no GPU's."""
    rows = (MemoryRow("weights", 5, 4),)
    worker = msgspec.structs.replace(status(), state=State.READY, load=EngineLoad(), memory=rows)
    (told,) = reading("1", DISPATCH, [worker], config=ConfigReading()).workers
    assert (told.planned_bytes, told.device_bytes, told.device_segments) == (0, 0, 0)
