"""A running pool over children that the test plays, on a clock that jumps, with GPUs and memory that it makes up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from gemmad.config.schema import RecycleSection, WorkersSection
from gemmad.generation import EngineLoad, EngineSettings
from gemmad.protocol.messages import PROTOCOL_VERSION, Heartbeat, Loading, Ready
from gemmad.supervisor.gpus import Gpu, Gpus
from gemmad.supervisor.hostmemory import MemoryWatch
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.pool import Pool, Seat, WorkerStatus
from gemmad.supervisor.surroundings import Host
from gemmad.supervisor.watch import GpuWatch
from tests.fakes.child import CAPACITY, Nursery, ScriptedChild
from tests.fakes.clock import run_virtually, settle
from tests.fakes.listener import RecordingListener

HELLO = Loading(PROTOCOL_VERSION, "imports", 0.0)
READY = Ready(capacity=CAPACITY, pid=1, seconds=1.0)
BEAT = Heartbeat(EngineLoad())
GIB = 1 << 30
TOTAL_BYTES = 80 * GIB


def gpu(index: int = 0, *, free: int = 80, **fields: Any) -> Gpu:
    """A GPU of 80 GiB, of which `free` GiB are free."""
    return Gpu(
        index=index,
        uuid=f"GPU-{index:04x}",
        name="NVIDIA H200",
        total_bytes=TOTAL_BYTES,
        used_bytes=TOTAL_BYTES - free * GIB,
        **fields,
    )


def gpu_seat(index: int = 0) -> Seat:
    """A worker's place on it."""
    return Seat(f"gpu{index}", "cuda:0", {}, gpu=f"GPU-{index:04x}")


class Stage:
    """A running pool of one worker or more, and what a test needs around it. With `gpus` somebody looks at them."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        seats: int | Sequence[Seat] = 1,
        gpus: Sequence[Gpu] | Gpus | None = None,
        seats_after: Callable[[Gpus], Sequence[Seat]] | None = None,
        root: Path = Path("/nonexistent"),
        recycle: RecycleSection | None = None,
        **section: Any,
    ) -> None:
        self.clock = clock
        self.section = WorkersSection(**section)
        self.recycle = recycle or RecycleSection()
        self.settings = EngineSettings(checkpoint="one")
        self.nursery = Nursery()
        self.listener = RecordingListener()
        self.sight = gpus if isinstance(gpus, Gpus) else Gpus(tuple(gpus or ()))
        self.sees = asyncio.Event()
        """Cleared, a look hangs."""
        self.sees.set()
        self.looks = 0
        self.available: int | None = None
        """Bytes of the host's memory that are left."""
        if isinstance(seats, int):
            seats = [Seat(f"cpu{number}", "cpu", {"SEAT": str(number)}) for number in range(seats)]
        self.pool = Pool(
            seats,
            section=lambda: self.section,
            recycle=lambda: self.recycle,
            settings=lambda seat: self.settings,
            listener=self.listener,
            spawn=self.nursery,
            watch=None if gpus is None else GpuWatch(self._find, seats_after=seats_after, clock=clock),
            host=Host(
                clock=clock,
                wall=lambda: 1_800_000_000.0 + clock(),
                chance=lambda: 1.0,
                watch_memory=lambda pid: MemoryWatch(pid, root=root),
                available_bytes=lambda: self.available,
            ),
        )

    async def _find(self) -> Gpus:
        self.looks += 1
        await self.sees.wait()
        return self.sight

    @property
    def child(self) -> ScriptedChild:
        """The latest."""
        return self.nursery.children[-1]

    def state(self) -> State:
        return self.status.state

    @property
    def status(self) -> WorkerStatus:
        return self.pool.status()[0]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.pool.run())
            await settle()
            yield
            await self.pool.stop()
        assert all(child.closed for child in self.nursery.children)
        assert self.listener.workers == []

    async def after(self, seconds: float) -> State:
        await asyncio.sleep(seconds)
        await settle()
        return self.state()

    async def get_ready(self) -> None:
        self.child.load()
        await settle()
        assert self.state() is State.READY


def play(script: Callable[[Stage], Awaitable[None]], **options: Any) -> Stage:
    """Run a script over a stage, and see that the pool stops cleanly afterwards."""

    async def main(clock: Callable[[], float]) -> Stage:
        stage = Stage(clock, **options)
        async with stage.running():
            await script(stage)
        return stage

    return run_virtually(main)
