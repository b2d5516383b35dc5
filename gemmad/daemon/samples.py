"""From what workers and GPUs tell to points and samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gemmad.dispatch.counts import DispatchStatus
from gemmad.monitor.live import LivePoint, WorkerPoint
from gemmad.monitor.rates import FirstTokens, Rate
from gemmad.monitor.sample import MemorySample
from gemmad.planning.budget import KV_FULL, KV_SLIDING
from gemmad.supervisor.gauges import GpuGauge
from gemmad.supervisor.wishes import WorkerStatus


class Seconds:
    """Makes the point of each second."""

    def __init__(self, first_tokens: FirstTokens) -> None:
        self._first_tokens = first_tokens
        self._generated = Rate(window_seconds=0.5)  # counted by the daemon itself: the last second is enough
        self._prefilled = Rate()
        self._of_worker: dict[str, Rate] = {}

    def point(self, workers: Sequence[WorkerStatus], dispatch: DispatchStatus, *, at: float, now: float) -> LivePoint:
        """As of now; to be called once a second. `at` is in seconds since the epoch, `now` monotonic."""
        self._of_worker = {worker.name: self._of_worker.get(worker.name, Rate()) for worker in workers}
        prefilled = sum(worker.totals.prefilled_tokens for worker in workers)
        p50, p95 = self._first_tokens.quantiles(0.5, 0.95)
        return LivePoint(
            at=round(at, 3),
            running=dispatch.running,
            waiting=dispatch.waiting,
            tokens_per_second=round(self._generated.after(dispatch.counts.generated_tokens, now=now), 1),
            prompt_tokens_per_second=round(self._prefilled.after(prefilled, now=now), 1),
            ttft_p50=p50,
            ttft_p95=p95,
            workers=tuple(self._worker(worker, now=now) for worker in workers),
        )

    def _worker(self, worker: WorkerStatus, *, now: float) -> WorkerPoint:
        load = worker.load
        rate = self._of_worker[worker.name].after(worker.totals.generated_tokens, now=now)
        return WorkerPoint(
            name=worker.name,
            state=worker.state.value,
            running=0 if load is None else load.running,
            kv_usage=None if worker.kv_usage is None else round(worker.kv_usage, 4),
            device_bytes=0 if load is None else load.device_bytes,
            host_rss_bytes=0 if load is None else load.host_rss_bytes,
            tokens_per_second=round(rate, 1),
        )


class Intervals:
    """Makes the samples of each interval, with the most pages that were in use in it: a short rush counts, too."""

    def __init__(self) -> None:
        self._most: dict[tuple[str, int], tuple[int, int]] = {}

    def note(self, workers: Iterable[WorkerStatus]) -> None:
        """As of now; to be called as often as there is news."""
        for worker in workers:
            if worker.load is not None:
                full, sliding = self._most.get((worker.name, worker.life), (0, 0))
                used = (max(full, worker.load.full_pages_used), max(sliding, worker.load.sliding_pages_used))
                self._most[worker.name, worker.life] = used

    def samples(
        self, workers: Sequence[WorkerStatus], gauges: Iterable[GpuGauge], *, at: float
    ) -> tuple[MemorySample, ...]:
        """One of each worker; the next interval begins. `at` is in seconds since the epoch."""
        self.note(workers)
        most, self._most = self._most, {}
        by_uuid = {gauge.uuid: gauge for gauge in gauges}
        planned = {gpu: _planned_on(gpu, workers) for worker in workers if (gpu := worker.gpu) is not None}
        return tuple(
            _sample(
                worker,
                at=round(at, 3),
                pages_used=most.get((worker.name, worker.life), (0, 0)),
                gauge=by_uuid.get(worker.gpu or ""),
                gpu_planned_bytes=planned.get(worker.gpu or ""),
            )
            for worker in workers
        )


def _sample(
    worker: WorkerStatus,
    *,
    at: float,
    pages_used: tuple[int, int],
    gauge: GpuGauge | None,
    gpu_planned_bytes: int | None,
) -> MemorySample:
    load, capacity = worker.load, worker.capacity
    is_on_gpu = worker.device != "cpu" and load is not None
    kv_bytes = sum(
        row.measured_bytes or row.planned_bytes for row in worker.memory if row.name in (KV_FULL, KV_SLIDING)
    )
    return MemorySample(
        at=at,
        worker=worker.name,
        life=worker.life,
        state=worker.state.value,
        gpu=worker.gpu,
        planned_bytes=None if worker.device == "cpu" else _plan(worker),
        reserved_bytes=load.device_bytes if is_on_gpu and load is not None else None,
        allocated_bytes=load.device_allocated_bytes if is_on_gpu and load is not None else None,
        above_baseline_bytes=worker.above_baseline_bytes,
        full_pages=0 if capacity is None else capacity.full_pages,
        full_pages_used=pages_used[0],
        sliding_pages=0 if capacity is None else capacity.sliding_pages,
        sliding_pages_used=pages_used[1],
        kv_bytes=kv_bytes or None,
        preemptions=0 if load is None else load.preemptions,
        host_rss_bytes=0 if load is None else load.host_rss_bytes,
        gpu_used_bytes=None if gauge is None else gauge.memory_used_bytes,
        gpu_total_bytes=None if gauge is None else gauge.memory_total_bytes,
        gpu_planned_bytes=gpu_planned_bytes,
    )


def _plan(worker: WorkerStatus) -> int | None:
    """Of one life on its device; None before it is made."""
    return sum(row.planned_bytes for row in worker.memory) if worker.memory else None


def _planned_on(gpu: str, workers: Iterable[WorkerStatus]) -> int | None:
    """Of all lives there; None while one of them has a process and no plan yet."""
    plans = [_plan(life) for worker in workers for life in _lives(worker) if life.gpu == gpu and life.pid is not None]
    return None if None in plans else sum(plan or 0 for plan in plans)


def _lives(worker: WorkerStatus) -> Iterator[WorkerStatus]:
    yield worker
    if worker.successor is not None:
        yield worker.successor
    yield from worker.leaving
