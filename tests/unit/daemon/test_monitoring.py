"""Monitoring as a whole: points, samples, alerts, and that nothing of it harms the daemon."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gemmad.config.schema import MonitorSection, RecycleSection
from gemmad.daemon.monitoring import Monitoring, Sources
from gemmad.generation import EngineLoad
from gemmad.monitor.thresholds import Change
from gemmad.supervisor.gauges import Gauges, GpuGauge
from gemmad.supervisor.hostmemory import memory_closest_to_its_limit
from gemmad.supervisor.wishes import WorkerStatus
from tests.unit.daemon.test_samples import GAUGE, dispatch, status
from tests.unit.monitor.test_history import Clock

PATIENCE_SECONDS = 20.0


class Stage:
    """What is watched, as the test says."""

    def __init__(self) -> None:
        self.section = MonitorSection()
        self.workers: tuple[WorkerStatus, ...] = (status(),)
        self.clock = Clock()
        self.told: list[Change] = []

    def monitoring(self, folder: Path) -> Monitoring:
        sources = Sources(
            section=lambda: self.section,
            recycle=RecycleSection,
            workers=lambda: self.workers,
            dispatch=dispatch,
            host=lambda: (100, 50),
            clock=self.clock,
            wall=lambda: 1e9 + self.clock.now,
        )
        gauges = Gauges(lambda: 10.0, read=_one_gpu)
        return Monitoring(folder, sources, version="1", count=self.told.append, gauges=gauges)

    def fill(self, pages: int) -> None:
        self.workers = (status(load=EngineLoad(full_pages_used=pages)),)


async def _one_gpu() -> tuple[GpuGauge, ...]:
    return (GAUGE,)


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    lines = [cast("dict[str, Any]", line.msg) for line in caplog.records if line.name == "gemmad.daemon.monitoring"]
    return [(line["level"], line["event"]) for line in lines]


def test_alerts_are_told_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What crosses a threshold is in the log by its weight, counted, and shown while it holds."""
    caplog.set_level("INFO")
    stage = Stage()
    monitoring = stage.monitoring(tmp_path)
    for pages in (10, 85, 97, 10):
        stage.fill(pages)
        monitoring.look()
        stage.clock.now += 10.0
        if pages == 97:
            assert [(alert.about, alert.level) for alert in monitoring.watched.alerts()] == [("kv", "critical")]
    assert events(caplog) == [
        ("warning", "memory alert begins"),
        ("error", "memory alert rises"),
        ("info", "memory alert ends"),
    ]
    assert [change.event for change in stage.told] == ["begins", "rises", "ends"]
    assert monitoring.watched.alerts() == ()


def test_settings_are_live(tmp_path: Path) -> None:
    """A new threshold and a new interval hold from the next second on."""
    stage = Stage()
    monitoring = stage.monitoring(tmp_path)
    stage.fill(50)
    monitoring.look()
    stage.section = MonitorSection(warning=0.4, interval=1)
    stage.clock.now += 1.0
    monitoring.look()
    assert [alert.about for alert in monitoring.watched.alerts()] == ["kv", "host"]


def test_points_and_samples(tmp_path: Path) -> None:
    """Each second has a point, each interval a sample, and both can be asked for while it runs."""
    stage = Stage()
    stage.section = MonitorSection(interval=10)

    async def work() -> None:
        monitoring = stage.monitoring(tmp_path)
        assert await monitoring.watched.history(0.0, 1e12, 10) == ()
        running = asyncio.create_task(monitoring.run())
        await until(lambda: monitoring.watched.gauges() != () and monitoring.watched.live() != ())
        for _ in range(25):
            stage.clock.now += 1.0
            monitoring.look()
        samples = await monitoring.watched.history(0.0, 1e12, 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len(samples) == 3
        assert [sample.gpu_used_bytes for sample in samples][1:] == [70, 70]
        assert len(monitoring.watched.live()) >= 26

    asyncio.run(work())
    assert (tmp_path / "history.sqlite3").exists()


def test_trouble_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong while looking is logged, once while it stays the same, and ends nothing."""
    stage = Stage()
    looks = 0

    def broken() -> tuple[WorkerStatus, ...]:
        nonlocal looks
        looks += 1
        stage.clock.now += 1.0 if looks < 5 else 0.0  # no pause till the next look
        raise LookupError("no such thing")

    async def work() -> None:
        monitoring = stage.monitoring(tmp_path)
        monitoring._sources = dataclasses.replace(monitoring._sources, workers=broken)
        running = asyncio.create_task(monitoring.run())
        await until(lambda: looks >= 5)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())
    assert events(caplog) == [("error", "cannot measure")]


def until(condition: Callable[[], bool]) -> Awaitable[None]:
    async def wait() -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < give_up
            await asyncio.sleep(0.005)

    return wait()


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [("max", 0, (1000 << 10, 400 << 10)), (str(100 << 10), 90 << 10, (100 << 10, 15 << 10))],
)
def test_the_hosts_memory(tmp_path: Path, limit: str, used: int, expected: tuple[int, int]) -> None:
    """The one that has the smaller share left counts: the host, or the daemon's cgroup."""
    cgroup = tmp_path / "sys/fs/cgroup/system.slice/gemmad.service"
    (tmp_path / "proc/self").mkdir(parents=True)
    cgroup.mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/gemmad.service\n")
    (cgroup / "memory.max").write_text(limit)
    (cgroup / "memory.current").write_text(str(used))
    (cgroup / "memory.stat").write_text(f"inactive_file {5 << 10}\n")
    assert memory_closest_to_its_limit(tmp_path) == expected
