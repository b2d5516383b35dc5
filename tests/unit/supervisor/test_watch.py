"""Looking at the GPUs now and then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from gemmad.supervisor.gpus import Gpu, Gpus
from gemmad.supervisor.watch import CALM_SECONDS, HANGING_SECONDS, GpuWatch, Urgency, in_thread, pause_seconds
from tests.fakes.clock import run_virtually, settle

ONE = Gpus((Gpu(index=0, uuid="GPU-a", name=""),))
NONE = Gpus((), "no NVIDIA driver answers")


class Eyes:
    """A watch and what it has told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.sight: Gpus | Exception = ONE
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.urgency = Urgency.CALM
        self.told: list[tuple[float, Gpus]] = []
        self.watch = GpuWatch(self._find, clock=clock)

    async def _find(self) -> Gpus:
        await self.hangs.wait()
        if isinstance(self.sight, Exception):
            raise self.sight
        return self.sight

    async def run(self) -> None:
        await self.watch.run(lambda gpus, at: self.told.append((at, gpus)), lambda: self.urgency)

    async def looks_within(self, seconds: float) -> int:
        before = len(self.told)
        await asyncio.sleep(seconds)
        await settle()
        return len(self.told) - before


def watch(script: Callable[[Eyes], object]) -> None:
    async def main(clock: Callable[[], float]) -> None:
        eyes = Eyes(clock)
        task = asyncio.create_task(eyes.run())
        await settle()
        await script(eyes)  # type: ignore[misc]
        task.cancel()
        await asyncio.wait({task})

    run_virtually(main)


def test_it_looks_as_often_as_somebody_needs_it() -> None:
    """Seldom when all is well, often while memory is waited for, ever less often while a GPU stays away."""

    async def script(eyes: Eyes) -> None:
        assert [gpus for _, gpus in eyes.told] == [ONE]
        assert await eyes.looks_within(CALM_SECONDS * 3.5) == 3
        eyes.urgency = Urgency.MEMORY
        eyes.watch.ring()
        assert await eyes.looks_within(10) == 21
        eyes.urgency, eyes.sight = Urgency.MISSING, NONE
        eyes.watch.ring()
        assert await eyes.looks_within(60) == 6  # after 0, 1, 3, 7, 15 and 31 s
        assert await eyes.looks_within(300) == 10
        eyes.sight = ONE
        eyes.watch.ring()
        assert await eyes.looks_within(8) == 4  # news begin the row anew

    watch(script)


def test_rings_merge() -> None:
    """However often it is rung, it looks once."""

    async def script(eyes: Eyes) -> None:
        for _ in range(5):
            eyes.watch.ring()
        assert await eyes.looks_within(1) == 1

    watch(script)


def test_a_look_that_hangs_is_news() -> None:
    """A driver that does not answer is told as such, is not asked a second time meanwhile, and heard in the end."""

    async def script(eyes: Eyes) -> None:
        eyes.hangs.clear()
        eyes.urgency = Urgency.MISSING
        eyes.watch.ring()
        assert await eyes.looks_within(HANGING_SECONDS * 3) >= 2
        assert "has not answered" in (eyes.told[-1][1].problem or "")
        eyes.sight = NONE
        eyes.hangs.set()
        await eyes.looks_within(31)
        assert eyes.told[-1][1] == NONE

    watch(script)


def test_a_library_that_fails_in_a_new_way(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is logged, told as no GPU, and looked at again."""

    async def script(eyes: Eyes) -> None:
        eyes.sight = AttributeError("nvmlNews")
        eyes.watch.ring()
        await eyes.looks_within(1)
        assert "nvmlNews" in (eyes.told[-1][1].problem or "")
        eyes.sight = ONE
        eyes.watch.ring()
        await eyes.looks_within(1)
        assert eyes.told[-1][1] == ONE

    watch(script)
    assert any(record.exc_info for record in caplog.records)


def test_pauses_are_bounded() -> None:
    """A GPU that stays away for a year is still looked for."""
    assert pause_seconds(Urgency.MISSING, 10**6) == 30.0
    assert pause_seconds(Urgency.MISSING, 0) == 1.0


def test_a_thread_of_its_own() -> None:
    """Work in a thread gives its result or its error."""

    def fail() -> None:
        raise OSError("broken")

    async def main() -> int:
        with pytest.raises(OSError, match="broken"):
            await in_thread(fail)
        return await in_thread(threading.get_ident)

    assert asyncio.run(main()) != threading.get_ident()


def test_a_thread_that_hangs_holds_up_nobody() -> None:
    """The loop ends though the work has not, and the late result is dropped."""
    over = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await in_thread(over.wait)

    asyncio.run(main())
    over.set()
