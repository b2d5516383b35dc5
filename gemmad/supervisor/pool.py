"""All workers of the daemon: who is wanted, and that who is wanted runs.

The pool holds no state of a worker; it holds wishes. `reconcile` turns them into requests to the actors and may be
called at any time, by anyone, as often as they like.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from gemmad.config.schema import WorkersSection
from gemmad.generation import EngineSettings
from gemmad.supervisor.life import Spawn
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Listener, Outlook, WorkerHandle
from gemmad.supervisor.process import Process
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.wishes import Drain, Restart, Retire, Start, Stop, WorkerStatus
from gemmad.supervisor.worker import Worker

__all__ = ["Listener", "Outlook", "Pool", "Seat", "State", "WorkerHandle", "WorkerStatus"]

DRAIN_SECONDS = 600.0
"""How long a worker may finish what it has; then its requests go on elsewhere."""


class Pool:
    """One actor for each seat, under one TaskGroup."""

    def __init__(
        self,
        seats: Sequence[Seat],
        *,
        section: Callable[[], WorkersSection],
        settings: Callable[[Seat], EngineSettings],
        listener: Listener,
        command: Sequence[str] = (sys.executable, "-m", "gemmad.worker"),
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        spawn: Spawn = Process,
    ) -> None:
        self._listener = listener
        self._held: set[str] = set()
        self._stopping = False
        self._over = asyncio.Event()
        self._running = False
        self._workers = {
            seat.name: Worker(
                seat,
                section=section,
                settings=settings,
                listener=listener,
                spawn=partial(spawn, command),
                changed=self.reconcile,
                clock=clock,
                chance=chance,
            )
            for seat in seats
        }

    async def run(self) -> None:
        """Start every worker and keep them alive until `stop`."""
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                for name, worker in self._workers.items():
                    group.create_task(worker.run(), name=f"worker {name}")
                self.reconcile()
        finally:
            self._over.set()

    def reconcile(self) -> None:
        """Start whatever is wanted with the settings of now, let go of what is not, and tell the listener."""
        for name, worker in self._workers.items():
            if self._stopping:
                worker.wish(Retire())
            elif name not in self._held:
                worker.wish(Start())
            elif worker.state in {State.BACKOFF, State.FAILED}:
                worker.wish(Stop())
        self._listener.outlook_changed(self.outlook(), wait_seconds=self.ready_in_seconds())

    def drain(self, name: str, *, grace_seconds: float = DRAIN_SECONDS) -> None:
        """Let a worker finish and keep it stopped until `resume`. Raises KeyError for a name that nobody has."""
        self._workers[name].wish(Drain(grace_seconds))
        self._held.add(name)

    def resume(self, name: str) -> None:
        """Want a worker again."""
        self._held.discard(self._workers[name].seat.name)
        self.reconcile()

    def restart(self, name: str, *, grace_seconds: float = DRAIN_SECONDS) -> None:
        """Let a worker finish and begin its next life; one that waits for its next life begins it now."""
        self._workers[name].wish(Restart(grace_seconds))

    async def stop(self) -> None:
        """Shut down, terminate, kill: when this returns, no worker is left (save one that the kernel holds on to)."""
        self._stopping = True
        if self._running:
            self.reconcile()
            await self._over.wait()

    def status(self) -> tuple[WorkerStatus, ...]:
        """Every worker, in the order of the seats."""
        return tuple(worker.status() for worker in self._workers.values())

    def outlook(self) -> Outlook:
        """Whether there is someone to serve a request."""
        if self._stopping:
            return Outlook.NOBODY
        wanted = [worker for name, worker in self._workers.items() if name not in self._held]
        if any(worker.state is State.READY for worker in wanted):
            return Outlook.SERVING
        if all(worker.state is State.FAILED for worker in wanted):
            return Outlook.NOBODY
        return Outlook.RETURNING if any(worker.served for worker in wanted) else Outlook.LOADING

    def ready_in_seconds(self) -> float:
        """A guess of when there is someone, if there is nobody now."""
        return min((worker.ready_in_seconds() for worker in self._workers.values()), default=0.0)
