"""Looks at the GPUs as often as somebody needs to know, and tells what it has seen.

NVML is opened for each look and closed again: a library that stays open holds the driver's modules, and never sees a
GPU that appears later. A look may hang with the driver; it runs in a thread of its own that nobody waits for at the
end, and as long as it hangs there is no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

from gemmad.logs import get_logger
from gemmad.supervisor.gpus import Gpus
from gemmad.supervisor.seat import Seat

T = TypeVar("T")

MEMORY_SECONDS = 0.5
"""Between looks while a worker waits for memory."""
MISSING_SECONDS = (1.0, 30.0)
"""Between looks while a GPU is missing: at first, and at most; doubled each time."""
CALM_SECONDS = 60.0
"""Between looks while all is well: one may be plugged in."""
HANGING_SECONDS = 10.0
"""After so long, a look that has not come back is news of its own."""

log = get_logger("gemmad.supervisor")


class Urgency(enum.Enum):
    """How much somebody wants to know."""

    CALM = "calm"
    MISSING = "a GPU is missing"
    MEMORY = "memory is waited for"


class GpuWatch:
    """One for each pool on GPUs. `find` returns what there is, in its own time; `seats_after` turns it into seats, and
    raises ConfigError where it cannot. Without it the seats stay as they are."""

    def __init__(
        self,
        find: Callable[[], Awaitable[Gpus]],
        *,
        seats_after: Callable[[Gpus], Sequence[Seat]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seats_after = seats_after
        self._find = find
        self._clock = clock
        self._bell = asyncio.Event()
        self._under_way: asyncio.Future[Gpus] | None = None

    def ring(self) -> None:
        """Look again at once. Rings merge."""
        self._bell.set()

    async def run(self, tell: Callable[[Gpus, float], None], urgency: Callable[[], Urgency]) -> None:
        """Look and `tell` what was seen, and when the look began, until cancelled."""
        seen, repeats = "", 0
        try:
            while True:
                self._bell.clear()
                began = self._clock()
                gpus = await self.look()
                sight = f"{gpus}; {gpus.problem}" if gpus.problem else str(gpus)
                repeats = repeats + 1 if sight == seen else 0
                if not repeats:
                    log.info("GPUs", found=str(gpus), **({"problem": gpus.problem} if gpus.problem else {}))
                seen = sight
                tell(gpus, began)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_seconds(urgency(), repeats)):
                        await self._bell.wait()
        finally:
            if self._under_way is not None:
                self._under_way.cancel()

    async def look(self) -> Gpus:
        """What there is now. A look that hangs is told as such, and goes on; its answer is what a later one sees."""
        if self._under_way is None:
            self._under_way = asyncio.ensure_future(self._find())
        done, _ = await asyncio.wait({self._under_way}, timeout=HANGING_SECONDS)
        if not done:
            return Gpus((), f"the NVIDIA driver has not answered for {HANGING_SECONDS:g} s", may_come=True)
        answer, self._under_way = self._under_way, None
        try:
            return answer.result()
        except Exception as error:  # a library that fails in a new way is no reason to stop serving
            log.exception("cannot look at the GPUs")
            return Gpus((), f"the look failed: {error!r}", may_come=True)


def pause_seconds(urgency: Urgency, repeats: int) -> float:
    """Before the next look, after so many that saw the same."""
    if urgency is Urgency.MEMORY:
        return MEMORY_SECONDS
    least, most = MISSING_SECONDS
    return min(most, least * 2.0 ** min(repeats, 16)) if urgency is Urgency.MISSING else CALM_SECONDS


async def in_thread(work: Callable[[], T]) -> T:
    """Its result. A thread that hangs holds up nobody: neither this loop's end nor the process's."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="gpu look", daemon=True).start()
    return await future
