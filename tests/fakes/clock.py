"""An event loop whose clock jumps: whoever sleeps is woken at once, in order, and an hour of timeouts takes no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STUCK_SECONDS = 5.0
"""Real time without an event and without a timer, after which a test is stuck."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only when there is nothing else to do."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        """The loop's clock; tests hand it to what takes a clock."""
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    """Where a loop would wait for its next timer, this lets the time pass."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> Any:
        """Events that are there; without any, time passes."""
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is not None:
            self._jump(max(timeout, 1e-6))
            return []
        events = super().select(STUCK_SECONDS)
        if not events:
            raise RuntimeError("the loop waits for something that will not come")
        return events


def run_virtually(main: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """Run `main(clock)` on a virtual loop. What fails in a callback fails here."""
    failures: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda loop, context: failures.append(context))
        result = runner.run(main(loop.time))
    for failure in failures:
        raise failure.get("exception") or RuntimeError(failure["message"])
    return result


async def settle() -> None:
    """Let everything happen that happens without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)
