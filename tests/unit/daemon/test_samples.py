"""Points and samples from what workers tell."""

from __future__ import annotations

from typing import Any

from gemmad.daemon.samples import Intervals, Seconds
from gemmad.dispatch.counts import Counts, DispatchStatus
from gemmad.generation import Capacity, EngineLoad, MemoryRow
from gemmad.monitor.rates import FirstTokens
from gemmad.supervisor.gauges import GpuGauge
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Outlook
from gemmad.supervisor.tally import WorkerTotals
from gemmad.supervisor.wishes import WorkerStatus

CAPACITY = Capacity(
    max_context=4096, max_sequences=16, max_step_tokens=2048, page_tokens=16, full_pages=100, sliding_pages=50
)
PLAN = (
    MemoryRow("weights", 10, 11),
    MemoryRow("kv full", 20, 21),
    MemoryRow("kv sliding", 30),
    MemoryRow("reserve", 5),
)
GAUGE = GpuGauge(uuid="GPU-1", label="0", name="A GPU", memory_used_bytes=70, memory_total_bytes=80)


def status(name: str = "gpu0", **fields: Any) -> WorkerStatus:
    """A worker that is ready and has this load, or as `fields` say."""
    usual: dict[str, Any] = {
        "device": "cuda:0",
        "state": State.READY,
        "life": 1,
        "pid": 4711,
        "stage": None,
        "fraction": None,
        "since": 0.0,
        "retry_at": None,
        "faults": 0.0,
        "last_error": None,
        "load": EngineLoad(full_pages_used=10, device_bytes=60, device_allocated_bytes=50, host_rss_bytes=9),
        "capacity": CAPACITY,
        "memory": PLAN,
        "gpu": "GPU-1",
        "above_baseline_bytes": 3,
    }
    return WorkerStatus(name=name, **(usual | fields))


def dispatch(generated: int = 0, *, running: int = 0, waiting: int = 0) -> DispatchStatus:
    return DispatchStatus(
        waiting=waiting,
        running=running,
        workers_ready=1,
        outlook=Outlook.SERVING,
        draining=False,
        tokens_per_second=0.0,
        service_seconds=0.0,
        counts=Counts(generated_tokens=generated),
    )


def test_a_point() -> None:
    """A second's point has what ran, what was computed in it, and each worker's part."""
    waits = FirstTokens()
    waits.observe(0.25)
    seconds = Seconds(waits)
    seconds.point([status()], dispatch(), at=50.0, now=0.0)
    busy = status(
        load=EngineLoad(running=3, full_pages_used=10, device_bytes=60, host_rss_bytes=9),
        totals=WorkerTotals(generated_tokens=40, prefilled_tokens=300),
    )
    point = seconds.point([busy], dispatch(80, running=3, waiting=2), at=51.0, now=1.0)
    assert (point.at, point.running, point.waiting) == (51.0, 3, 2)
    assert (point.tokens_per_second, point.prompt_tokens_per_second) == (80.0, 300.0)
    assert (point.ttft_p50, point.ttft_p95) == (0.25, 0.25)
    (worker,) = point.workers
    assert (worker.name, worker.state, worker.running, worker.kv_usage) == ("gpu0", "ready", 3, 0.1)
    assert (worker.device_bytes, worker.host_rss_bytes, worker.tokens_per_second) == (60, 9, 40.0)


def test_a_point_while_it_loads() -> None:
    """A worker without a load is there with its state."""
    point = Seconds(FirstTokens()).point([status(state=State.STARTING, load=None)], dispatch(), at=1.0, now=1.0)
    assert (point.workers[0].state, point.workers[0].kv_usage, point.ttft_p50) == ("starting", None, None)


def test_a_sample() -> None:
    """A worker, its pools and its GPU, with what is planned there in all."""
    (sample,) = Intervals().samples([status()], [GAUGE], at=99.0)
    assert (sample.at, sample.worker, sample.life, sample.state, sample.gpu) == (99.0, "gpu0", 1, "ready", "GPU-1")
    assert (sample.planned_bytes, sample.gpu_planned_bytes, sample.kv_bytes) == (65, 65, 51)
    assert (sample.reserved_bytes, sample.allocated_bytes, sample.above_baseline_bytes) == (60, 50, 3)
    assert (sample.full_pages, sample.full_pages_used, sample.sliding_pages) == (100, 10, 50)
    assert (sample.gpu_used_bytes, sample.gpu_total_bytes, sample.host_rss_bytes) == (70, 80, 9)


def test_a_rush_between_two_samples() -> None:
    """The most pages of the interval are told, of this life only, and the next interval begins anew."""
    intervals = Intervals()
    intervals.note([status(load=EngineLoad(full_pages_used=90, sliding_pages_used=4))])
    intervals.note([status(load=EngineLoad(full_pages_used=20, sliding_pages_used=40))])
    (sample,) = intervals.samples([status()], [], at=1.0)
    assert (sample.full_pages_used, sample.sliding_pages_used) == (90, 40)
    (sample,) = intervals.samples([status()], [], at=2.0)
    assert (sample.full_pages_used, sample.sliding_pages_used) == (10, 0)
    intervals.note([status(load=EngineLoad(full_pages_used=90))])
    (sample,) = intervals.samples([status(life=2)], [], at=3.0)
    assert sample.full_pages_used == 10


def test_plans_of_one_gpu() -> None:
    """All lives with a process count; while one has no plan yet the sum is not known, and a drained one has none."""
    both = Intervals().samples([status(), status("gpu0-1")], [GAUGE], at=1.0)
    assert [sample.gpu_planned_bytes for sample in both] == [130, 130]
    renewed = status(successor=status(memory=()), leaving=(status(),))
    assert Intervals().samples([renewed], [GAUGE], at=1.0)[0].gpu_planned_bytes is None
    renewed = status(successor=status(), leaving=(status(),))
    assert Intervals().samples([renewed], [GAUGE], at=1.0)[0].gpu_planned_bytes == 195
    drained = status(pid=None, memory=(), load=None, capacity=None, state=State.STOPPED)
    (sample,) = Intervals().samples([drained], [GAUGE], at=1.0)
    assert (sample.planned_bytes, sample.gpu_planned_bytes, sample.kv_usage) == (None, 0, None)


def test_on_a_cpu() -> None:
    """There is no device to tell of, but pages and the process are."""
    (sample,) = Intervals().samples([status("cpu0", device="cpu", gpu=None, above_baseline_bytes=None)], [], at=1.0)
    assert (sample.planned_bytes, sample.reserved_bytes, sample.gpu_planned_bytes) == (None, None, None)
    assert (sample.kv_bytes, sample.host_rss_bytes, sample.kv_usage) == (51, 9, 0.1)
