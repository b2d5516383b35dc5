"""A real pool over real fake workers, with short times."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, cast

from gemmad.config.schema import RecycleSection, WorkersSection
from gemmad.generation import EngineSettings
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Listener
from gemmad.supervisor.pool import Pool, Seat, WorkerStatus
from gemmad.supervisor.process import Process
from gemmad.supervisor.surroundings import Host
from tests.fakes.worker import Behaviour, command

QUICK: dict[str, Any] = {"restart_pause": 0.05, "stop_grace": 1.0, "load_timeout": 5.0, "hang_timeout": 5.0}
PATIENCE_SECONDS = 20.0


class Watched:
    """A pool and its listener, with waits that have a deadline and say what they saw."""

    def __init__(
        self,
        listener: Listener,
        program: Behaviour | tuple[str, ...],
        *,
        seats: int = 1,
        cpus: tuple[int, ...] = (),
        recycle: RecycleSection | None = None,
        host: Host | None = None,
        **section: Any,
    ) -> None:
        self.listener = listener
        self.section = WorkersSection(**(QUICK | section))
        self.recycle = recycle or RecycleSection()
        self.settings = EngineSettings(checkpoint="one")
        self.pool = Pool(
            [Seat(f"cpu{number}", "cpu", {}, cpus=cpus) for number in range(seats)],
            section=lambda: self.section,
            recycle=lambda: self.recycle,
            host=host,
            settings=lambda seat: self.settings,
            listener=listener,
            spawn=partial(Process, command(program) if isinstance(program, Behaviour) else program),
        )

    @property
    def status(self) -> WorkerStatus:
        return self.pool.status()[0]

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, self.pool.status()
            await asyncio.sleep(0.005)

    async def until_state(self, state: State, *, life: int | None = None) -> WorkerStatus:
        await self.until(lambda: self.status.state is state and life in {None, self.status.life})
        return self.status

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.pool.run())
            try:
                yield
            finally:
                await self.pool.stop()


def supervise(
    listener: Callable[[], Listener],
    program: Behaviour | tuple[str, ...],
    script: Callable[[Watched], Awaitable[None]],
    **options: Any,
) -> Watched:
    """Run a script over a running pool."""

    async def main() -> Watched:
        watched = Watched(listener(), program, **options)
        async with watched.running():
            await script(watched)
        return watched

    return asyncio.run(main())


@contextlib.contextmanager
def captured_logs() -> Iterator[list[dict[str, Any]]]:
    """The supervisor's events, as they come."""
    events: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: events.append(cast("dict[str, Any]", record.msg))  # type: ignore[method-assign]
    logger = logging.getLogger("gemmad.supervisor")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield events
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)


def wait_for_exits(pidfds: list[int], *, seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether every process is gone in time; closes the pidfds."""
    poll = select.poll()
    for fd in pidfds:
        poll.register(fd, select.POLLIN)
    left = set(pidfds)
    while left and (ready := poll.poll(seconds * 1000)):
        for fd, _ in ready:
            poll.unregister(fd)
            left.discard(fd)
    for fd in pidfds:
        os.close(fd)
    return not left
