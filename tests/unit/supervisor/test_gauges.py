"""What the driver measures, and how often it is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from gemmad.supervisor.gauges import Gauges, GpuGauge, read_gauges
from tests.fakes.clock import run_virtually, settle
from tests.fakes.nvml import GIB, Device, FakeNvml, NVMLError, NVMLError_LibraryNotFound, nvml

BUSY = Device(uuid="GPU-1", used_bytes=60 * GIB, percent=75, milliwatts=550_500, limit_milliwatts=700_000, celsius=65)
GAUGE = GpuGauge(
    uuid="GPU-1",
    label="0",
    name="NVIDIA H200",
    utilisation=0.75,
    memory_used_bytes=60 * GIB,
    memory_total_bytes=80 * GIB,
    power_watts=550.5,
    power_limit_watts=700.0,
    temperature_celsius=65.0,
)


def test_a_gpu_that_measures_all() -> None:
    """Percents become shares, milliwatts watts; the library is closed again."""
    library = FakeNvml(BUSY)
    assert read_gauges(lambda: library) == (GAUGE,)
    assert library.open == 0


def test_what_is_not_measured_is_none() -> None:
    """A card that tells nothing but its name is there all the same."""
    (gauge,) = read_gauges(lambda: FakeNvml(Device(uuid="GPU-1", counts=False)))
    assert gauge == GpuGauge(uuid="GPU-1", label="0", name="NVIDIA H200")


def test_slices_stand_for_their_gpu() -> None:
    """Each slice has a gauge of its own, with its place in the label; an empty place has none."""
    part = Device(uuid="MIG-1", used_bytes=GIB)
    whole = Device(uuid="GPU-2", mig=True, slices=(None, part))
    told = read_gauges(lambda: FakeNvml(BUSY, whole))
    assert [(gauge.uuid, gauge.label) for gauge in told] == [("GPU-1", "0"), ("MIG-1", "1:1")]
    assert (told[1].memory_used_bytes, told[1].utilisation, told[1].power_watts) == (GIB, None, None)


def test_a_gpu_that_is_lost_hides_no_other() -> None:
    """The others are measured."""
    told = read_gauges(lambda: FakeNvml(Device(uuid="GPU-0", lost=True), BUSY))
    assert [(gauge.uuid, gauge.label) for gauge in told] == [("GPU-1", "1")]


def test_a_machine_without_nvml() -> None:
    """No package, no driver, one that does not answer and one that cannot count: nothing, and no complaint."""

    def missing() -> FakeNvml:
        raise ImportError("pynvml")

    assert read_gauges(missing) == ()
    for fault in (NVMLError_LibraryNotFound("no"), NVMLError("Driver/library version mismatch")):
        library = nvml("GPU-1")
        library.fault = fault
        assert read_gauges(lambda library=library: library) == ()  # type: ignore[misc]
    library = nvml("GPU-1")
    library.miscounts = True
    assert read_gauges(lambda: library) == ()
    assert library.open == 0


class Stage:
    """Gauges that run over a driver that the test plays."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.began = clock, clock()
        self.interval = 10.0
        self.there: tuple[GpuGauge, ...] = (GAUGE,)
        self.fault: Exception | None = None
        self.answers = asyncio.Event()
        """Cleared, a look hangs."""
        self.answers.set()
        self.looks: list[float] = []
        self.gauges = Gauges(lambda: self.interval, read=self._read, clock=clock)

    async def _read(self) -> tuple[GpuGauge, ...]:
        self.looks.append(round(self.clock() - self.began, 3))
        await self.answers.wait()
        if self.fault is not None:
            raise self.fault
        return self.there

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.gauges.run())
        await settle()
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def look_on(self, seconds: int) -> None:
        """Somebody has the page open."""
        for _ in range(seconds):
            self.gauges.looked_at()
            await asyncio.sleep(1)


def test_nobody_looks_on() -> None:
    """There is a look at the start, and one each interval; a changed interval is heeded soon."""

    async def main(clock: Callable[[], float]) -> None:
        stage = Stage(clock)
        async with stage.running():
            assert stage.gauges.latest == (GAUGE,)
            await asyncio.sleep(25)
            assert stage.looks == [0, 10, 20]
            stage.interval = 3600.0
            await asyncio.sleep(100)
            assert stage.looks == [0, 10, 20]
            stage.interval = 60.0
            await asyncio.sleep(5)
            assert len(stage.looks) == 4

    run_virtually(main)


def test_somebody_looks_on() -> None:
    """A look comes at once and every 2 s, until 10 s after they have gone."""

    async def main(clock: Callable[[], float]) -> None:
        stage = Stage(clock)
        stage.interval = 60.0
        async with stage.running():
            await asyncio.sleep(5)
            await stage.look_on(3)
            await asyncio.sleep(40)
            assert stage.looks == [0, 5, 7, 9, 11, 13, 15]

    run_virtually(main)


def test_nothing_to_measure() -> None:
    """Without a GPU it is looked once a minute, however many look on; one that appears is seen then."""

    async def main(clock: Callable[[], float]) -> None:
        stage = Stage(clock)
        stage.there = ()
        async with stage.running():
            await stage.look_on(50)
            assert stage.looks == [0]
            stage.there = (GAUGE,)
            await asyncio.sleep(15)
            assert stage.gauges.latest == (GAUGE,)

    run_virtually(main)


def test_a_driver_that_hangs() -> None:
    """What it said before is not told for ever, there is no second look beside the first, and its answer counts."""

    async def main(clock: Callable[[], float]) -> None:
        stage = Stage(clock)
        async with stage.running():
            stage.answers.clear()
            await asyncio.sleep(15)
            assert stage.gauges.latest == (GAUGE,)
            await asyncio.sleep(10)
            assert not stage.gauges.latest
            await asyncio.sleep(300)
            assert stage.looks == [0, 10]
            stage.answers.set()
            await asyncio.sleep(60)
            assert stage.gauges.latest == (GAUGE,)

    run_virtually(main)


def test_a_library_that_fails_in_a_new_way(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and looked again later."""

    async def main(clock: Callable[[], float]) -> None:
        stage = Stage(clock)
        stage.fault = AttributeError("nvmlDeviceGetPowerUsage")
        async with stage.running():
            await asyncio.sleep(200)
            assert not stage.gauges.latest
            assert len(stage.looks) == 4
            stage.fault = None
            await asyncio.sleep(60)
            assert stage.gauges.latest == (GAUGE,)

    run_virtually(main)
    assert caplog.text.count("cannot measure the GPUs") == 1


def test_a_thread_that_hangs_holds_up_nobody() -> None:
    """Cancelled during a look, it ends at once."""

    async def main(clock: Callable[[], float]) -> float:
        stage = Stage(clock)
        stage.answers.clear()
        async with stage.running():
            pass
        return clock() - stage.began

    assert run_virtually(main) == 0
