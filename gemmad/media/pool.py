"""The daemon's media processes: URLs of pictures in, sealed pixels out, whatever the pictures do to the processes.

Everything here and in the seats happens in callbacks of one event loop; nothing waits but the callers of `prepare`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from gemmad.config.schema import MediaSection
from gemmad.errors import InvalidRequestError, QueueFullError, UnavailableError
from gemmad.media.lanes import Lanes
from gemmad.media.pixels import Pixels
from gemmad.media.seat import Seat, SeatState
from gemmad.media.spec import ImageSpec
from gemmad.media.task import Task
from gemmad.media.urls import require_sane, scheme_of
from gemmad.media.wire import Begin

LONGEST_RETRY_AFTER_SECONDS = 120.0
FIRST_GUESS_SECONDS = 0.5
"""What a picture is taken to cost before one has been seen."""


class MediaStatus(Struct, frozen=True):
    """What the pool is busy with."""

    ready: int
    """Processes that have a picture or could take one."""
    busy: int
    waiting: int
    """Pictures that no process has taken yet."""
    deaths: int
    """Processes that ended without being asked to."""


class MediaPool:
    """Turns URLs of pictures into pixels. `run()` keeps the processes alive; `prepare()` is for everyone else."""

    def __init__(
        self,
        spec: ImageSpec,
        *,
        section: Callable[[], MediaSection],
        processes: int,
        memory_bytes: int,
        waiting_limit: int = 256,
        longest_wait_seconds: float = 60.0,
        command: Sequence[str] = (sys.executable, "-m", "gemmad.media"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._section = section
        self._waiting_limit = waiting_limit
        self._longest_wait_seconds = longest_wait_seconds
        begin = Begin(spec, memory_bytes)
        self._seats = [Seat(tuple(command), begin, on_free=self._seat_waiting, clock=clock) for _ in range(processes)]
        self._lanes: Lanes[Task] = Lanes(processes)
        self._numbers = itertools.count(1)
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Start the processes and replace those that die, until cancelled or closed."""
        if self._closing.is_set():
            return
        try:
            for seat in self._seats:
                seat.start()
            await self._closing.wait()
        finally:
            self.close()

    def close(self) -> None:
        """End all processes and fail every picture; idempotent. Nothing is left running when it returns."""
        self._closing.set()
        for task in self._lanes.clear():
            task.fail(UnavailableError("The daemon is stopping.", retry_after_seconds=1))
        for seat in self._seats:
            seat.close()

    def status(self) -> MediaStatus:
        """How busy it is."""
        states = [seat.state for seat in self._seats]
        busy = states.count(SeatState.BUSY)
        return MediaStatus(
            ready=busy + states.count(SeatState.READY),
            busy=busy,
            waiting=len(self._lanes),
            deaths=sum(seat.deaths for seat in self._seats),
        )

    async def prepare(self, url: str, *, param: str) -> Pixels:
        """The picture behind a data:, http: or https: URL, which is the caller's to close.

        Raises InvalidRequestError, which blames `param`, for whatever is wrong with the URL or the picture, and
        BusyError when too many wait or the daemon stops.
        """
        task = self._admit(url, param)
        patience = asyncio.get_running_loop().call_later(self._longest_wait_seconds, self._lose_patience, task)
        try:
            self._seat_waiting()
            return await task.answer()
        finally:
            patience.cancel()
            self._lanes.discard(task)

    def _admit(self, url: str, param: str) -> Task:
        """A task in its lane. Raises what `prepare` raises for a URL that no process need see."""
        try:
            require_sane(url)
        except InvalidRequestError as error:
            raise InvalidRequestError(error.message, param=param, code=error.code) from None
        fetches = scheme_of(url) != "data"
        if fetches and not self._section().fetch:
            message = "Images are not fetched here; send the image itself in a data: URL."
            raise InvalidRequestError(message, param=param, code="invalid_image_url")
        if self._closing.is_set():
            raise UnavailableError("The daemon is stopping.", retry_after_seconds=1)
        if len(self._lanes) >= self._waiting_limit:
            raise QueueFullError("Too many images wait to be read.", retry_after_seconds=self._retry_after())
        task = Task(next(self._numbers), url, param=param, fetches=fetches)
        self._lanes.push(task)
        return task

    def _seat_waiting(self) -> None:
        """Give waiting pictures to ready processes, as far as either go."""
        for seat in self._seats:
            if seat.state is SeatState.READY:
                fetching = sum(other.task is not None and other.task.fetches for other in self._seats)
                task = self._lanes.take(fetching=fetching)
                if task is None:
                    return
                seat.give(task, self._section())

    def _lose_patience(self, task: Task) -> None:
        if not task.has_started:
            self._lanes.discard(task)
            message = f"No process was free to read the image within {self._longest_wait_seconds:g} seconds."
            task.fail(QueueFullError(message, retry_after_seconds=self._retry_after()))

    def _retry_after(self) -> float:
        """When those who wait now will have been served, if each takes as long as the last ones."""
        taken = [seat.last_seconds for seat in self._seats if seat.last_seconds is not None]
        typical = sum(taken) / len(taken) if taken else FIRST_GUESS_SECONDS
        return min(max((len(self._lanes) + 1) * typical / len(self._seats), 1.0), LONGEST_RETRY_AFTER_SECONDS)
