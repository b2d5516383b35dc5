"""What the driver measures of a GPU: how busy, how hot, how hungry; looked at often while somebody looks on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TypeVar

from msgspec import Struct

from gemmad.logs import get_logger
from gemmad.supervisor.nvml import TEMPERATURE_OF_GPU, Nvml, NVMLDevice, as_text, in_mig_mode, load_nvml, slices_of
from gemmad.supervisor.watch import HANGING_SECONDS, in_thread

T = TypeVar("T")

WATCHED_SECONDS = 2.0
"""Between looks while somebody looks on, and"""
ATTENTION_SECONDS = 10.0
"""how long that is so after they last said so."""
NOTHING_SECONDS = 60.0
"""Between looks where there was nothing to measure."""
HEED_SECONDS = 5.0
"""A changed interval is heeded so late at most."""

log = get_logger("gemmad.supervisor")


class GpuGauge(Struct, frozen=True, kw_only=True):
    """One GPU or MIG slice as of one look; what it does not measure is None."""

    uuid: str
    label: str
    """0, or 0:1 for a slice."""
    name: str
    utilisation: float | None = None
    """Share of the last moment in which a kernel ran, 0 to 1."""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    temperature_celsius: float | None = None


def read_gauges(load: Callable[[], Nvml] = load_nvml) -> tuple[GpuGauge, ...]:
    """Every GPU and slice that answers; none where there is no driver.

    It may take its time, or never return while the driver hangs: call it in a thread that nobody waits for at the end.
    """
    try:
        nvml = load()
    except ImportError:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # no driver is installed, or none answers: the watch on the GPUs tells why
        return ()
    try:
        return tuple(gauge for index in range(nvml.nvmlDeviceGetCount()) for gauge in _gauges(nvml, index))
    except nvml.NVMLError:
        return ()
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


class Gauges:
    """One for each daemon. `interval` is the pause between looks that nobody asks for, in seconds; `read` returns what
    there is in its own time, and may hang; without it NVML is asked."""

    def __init__(
        self,
        interval: Callable[[], float],
        *,
        read: Callable[[], Awaitable[tuple[GpuGauge, ...]]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = interval
        self._read = partial(in_thread, read_gauges) if read is None else read
        self._clock = clock
        self._latest: tuple[GpuGauge, ...] = ()
        self._looked = 0.0
        self._watched_until = 0.0
        self._bell = asyncio.Event()
        self._under_way: asyncio.Future[tuple[GpuGauge, ...]] | None = None
        self._trouble = ""

    @property
    def latest(self) -> tuple[GpuGauge, ...]:
        """As of the last look; nothing while the driver does not answer."""
        return self._latest

    def looked_at(self) -> None:
        """Somebody looks on now."""
        self._watched_until = self._clock() + ATTENTION_SECONDS
        self._bell.set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        try:
            while True:
                self._looked = self._clock()
                self._latest = await self._look()
                while (left := self._looked + self._pause_seconds() - self._clock()) > 0:
                    self._bell.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(min(left, HEED_SECONDS)):
                            await self._bell.wait()
        finally:
            if self._under_way is not None:
                self._under_way.cancel()

    def _pause_seconds(self) -> float:
        if not self._latest:
            return NOTHING_SECONDS
        is_watched = self._clock() < self._watched_until
        return min(WATCHED_SECONDS, self._interval()) if is_watched else self._interval()

    async def _look(self) -> tuple[GpuGauge, ...]:
        """A look that hangs has seen nothing, and goes on; its answer is what a later one sees."""
        if self._under_way is None:
            self._under_way = asyncio.ensure_future(self._read())
        done, _ = await asyncio.wait({self._under_way}, timeout=HANGING_SECONDS)
        if not done:
            return ()
        answer, self._under_way = self._under_way, None
        try:
            return answer.result()
        except Exception as error:  # a library that fails in a new way is no reason to measure nothing any more
            if repr(error) != self._trouble:
                self._trouble = repr(error)
                log.exception("cannot measure the GPUs")
            return ()


def _gauges(nvml: Nvml, index: int) -> Iterator[GpuGauge]:
    """The GPU's, or those of its slices; none if it does not answer."""
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        if not in_mig_mode(nvml, device):
            yield _measure(nvml, device, label=str(index))
            return
        for place, part in slices_of(nvml, device):
            yield _measure(nvml, part, label=f"{index}:{place}")
    except nvml.NVMLError:
        return


def _measure(nvml: Nvml, device: NVMLDevice, *, label: str) -> GpuGauge:
    """Raises NVMLError for one that does not even tell who it is."""
    busy = _told(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu)
    memory = _told(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(device))
    milliwatts = _told(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(device))
    limit_milliwatts = _told(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device))
    celsius = _told(nvml, lambda: nvml.nvmlDeviceGetTemperature(device, TEMPERATURE_OF_GPU))
    return GpuGauge(
        uuid=as_text(nvml.nvmlDeviceGetUUID(device)),
        label=label,
        name=as_text(nvml.nvmlDeviceGetName(device)),
        utilisation=None if busy is None else busy / 100,
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total),
        power_watts=None if milliwatts is None else milliwatts / 1000,
        power_limit_watts=None if limit_milliwatts is None else limit_milliwatts / 1000,
        temperature_celsius=None if celsius is None else float(celsius),
    )


def _told(nvml: Nvml, ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except nvml.NVMLError:  # a slice, a passively cooled card, a virtual GPU: each measures less
        return None
