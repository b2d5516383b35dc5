"""From a reading to Prometheus's families. docs/metrics.md lists them all, and a test holds it to this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from gemmad.metrics.reading import AlertReading, ConfigReading, GpuReading, Reading, RoomReading, WorkerReading

Labels = TypeVar("Labels", bound=tuple[str, ...])
"""Their values, by which samples are told apart."""


def families(reading: Reading, *, states: Iterable[str]) -> Iterator[Metric]:
    """All of them. `states` are those that a worker can be in."""
    yield from _requests(reading)
    yield from _worker_lives(reading.workers, tuple(states))
    yield from _worker_work(reading.workers)
    yield from _worker_memory(reading.workers)
    yield from _gpus(reading.gpus)
    yield from _rooms(reading.rooms)
    yield from _alerts(reading.alerts)
    yield from _config(reading.config)
    yield _gauge("build_info", "Which gemmad this is.", ["version"], {(reading.version,): 1})


def _requests(reading: Reading) -> Iterator[Metric]:
    yield _gauge("requests_running", "Requests at a worker.", [], {(): reading.running})
    yield _gauge("requests_waiting", "Requests in the queue.", [], {(): reading.waiting})
    yield _gauge("requests_waiting_limit", "Requests that may wait in the queue.", [], {(): reading.waiting_limit})
    yield _counter("requests_refused", "Requests that were not admitted to the queue.", [], {(): reading.refused})
    yield _counter("prompt_tokens", "Prompt tokens of finished requests.", [], {(): reading.prompt_tokens})
    yield _counter("generation_tokens", "Tokens generated.", [], {(): reading.generated_tokens})
    yield _counter("failovers", "Requests that went on at another worker.", [], {(): reading.failovers})
    words = "Requests refused because workers died of them."
    yield _counter("quarantined_requests", words, [], {(): reading.quarantined})


def _worker_lives(workers: Sequence[WorkerReading], states: Sequence[str]) -> Iterator[Metric]:
    info = {(each.name, each.device, each.gpu_uuid): 1.0 for each in workers}
    yield _gauge("worker_info", "Where it computes.", ["worker", "device", "uuid"], info)
    state = {(each.name, name): float(name == each.state) for each in workers for name in states}
    yield _gauge("worker_state", "1 for the state it is in.", ["worker", "state"], state)
    starts = {(each.name,): each.starts for each in workers}
    yield _counter("worker_starts", "Lives that were begun.", ["worker"], starts)
    restarts = {(each.name, reason): count for each in workers for reason, count in each.restarts.items()}
    words = "Lives that ended as they should not have, by why; the next one follows."
    yield _counter("worker_restarts", words, ["worker", "reason"], restarts)
    recycles = {
        (each.name, trigger, outcome): count
        for each in workers
        for outcome, counts in (("done", each.recycles), ("failed", each.failed_recycles))
        for trigger, count in counts.items()
    }
    words = "Renewals that are over, by what they were for and whether the new life got ready."
    yield _counter("worker_recycles", words, ["worker", "trigger", "outcome"], recycles)


def _worker_work(workers: Sequence[WorkerReading]) -> Iterator[Metric]:
    def sums(name: str, words: str, counts: Iterable[int]) -> Metric:
        return _counter(
            name, words, ["worker"], {(each.name,): count for each, count in zip(workers, counts, strict=True)}
        )

    running = {(each.name,): each.running for each in workers}
    yield _gauge("worker_requests_running", "Requests that it computes.", ["worker"], running)
    yield sums("worker_requests", "Requests that it was handed.", (each.requests for each in workers))
    yield sums("worker_steps", "Steps of its engine.", (each.steps for each in workers))
    yield sums("worker_generated_tokens", "Tokens that it generated.", (each.generated_tokens for each in workers))
    yield sums(
        "worker_prefilled_tokens", "Tokens of prompts that it computed.", (each.prefilled_tokens for each in workers)
    )
    yield sums("preemptions", "Requests set back for lack of pages.", (each.preemptions for each in workers))
    yield sums("prefix_cache_queries", "Tokens of prompts that it has begun.", (each.prompt_tokens for each in workers))
    yield sums(
        "prefix_cache_hits", "Those of them that its prefix cache held.", (each.cached_tokens for each in workers)
    )


def _worker_memory(workers: Sequence[WorkerReading]) -> Iterator[Metric]:
    usage = {(each.name,): each.kv_usage_ratio for each in workers}
    yield _gauge("kv_cache_usage_ratio", "Of the fuller page pool.", ["worker"], usage)
    pages = {(each.name, pool): count for each in workers for pool, count in each.kv_pages.items()}
    yield _gauge("kv_pages", "Pages for keys and values, by pool.", ["worker", "pool"], pages)
    used = {(each.name, pool): count for each in workers for pool, count in each.kv_pages_used.items()}
    yield _gauge("kv_pages_used", "Those of them that are used.", ["worker", "pool"], used)
    rss = {(each.name,): each.host_rss_bytes for each in workers}
    yield _gauge("host_rss_bytes", "Resident memory of its process.", ["worker"], rss)
    vram = {
        (each.name, kind): count
        for each in workers
        for kind, count in (
            ("planned", each.planned_bytes),
            ("reserved", each.reserved_bytes),
            ("allocated", each.allocated_bytes),
        )
    }
    yield _gauge("vram_bytes", "Memory on its GPU.", ["worker", "kind"], vram)
    above = {(each.name,): each.above_baseline_bytes for each in workers}
    words = "What it has reserved on its GPU beyond what it had when it was ready."
    yield _gauge("vram_above_baseline_bytes", words, ["worker"], above)
    segments = {(each.name,): each.device_segments for each in workers}
    words = "Taken from its GPU in this life; constant once it is ready."
    yield _gauge("device_segments", words, ["worker"], segments)


def _gpus(gpus: Sequence[GpuReading]) -> Iterator[Metric]:
    def measured(name: str, words: str, values: Iterable[float | None]) -> Metric:
        samples = {(gpu.label, gpu.uuid): value for gpu, value in zip(gpus, values, strict=True)}
        return _gauge(f"gpu_{name}", words, ["gpu", "uuid"], samples)

    names = {(gpu.label, gpu.uuid, gpu.name): 1.0 for gpu in gpus}
    yield _gauge("gpu_info", "GPUs and MIG slices that the driver shows.", ["gpu", "uuid", "name"], names)
    yield measured(
        "utilisation_ratio", "Share of the last moment in which a kernel ran.", (gpu.utilisation for gpu in gpus)
    )
    yield measured("memory_used_bytes", "Taken, by whomever.", (gpu.memory_used_bytes for gpu in gpus))
    yield measured("memory_total_bytes", "What it has.", (gpu.memory_total_bytes for gpu in gpus))
    yield measured("power_watts", "What it draws.", (gpu.power_watts for gpu in gpus))
    yield measured("power_limit_watts", "What it may draw.", (gpu.power_limit_watts for gpu in gpus))
    yield measured("temperature_celsius", "How hot it is.", (gpu.temperature_celsius for gpu in gpus))


def _rooms(rooms: Sequence[RoomReading]) -> Iterator[Metric]:
    busy = {(room.name,): room.busy for room in rooms}
    yield _gauge("room_busy", "Processes that read an image or compile a grammar.", ["room"], busy)
    waiting = {(room.name,): room.waiting for room in rooms}
    yield _gauge("room_waiting", "Images and grammars that no process has taken yet.", ["room"], waiting)
    deaths = {(room.name,): room.deaths for room in rooms}
    yield _counter("room_deaths", "Processes of it that ended unasked.", ["room"], deaths)


def _alerts(alerts: Sequence[AlertReading]) -> Iterator[Metric]:
    now = {(alert.level, alert.about, alert.worker): 1.0 for alert in alerts}
    words = "1 for each threshold of memory that is crossed now."
    yield _gauge("memory_alert", words, ["level", "about", "worker"], now)


def _config(config: ConfigReading) -> Iterator[Metric]:
    words = "Whether the config as it is written is in force."
    yield _gauge("config_reload_success", words, [], {(): config.is_good})
    words = "When the config was last read again."
    yield _gauge("config_reload_timestamp_seconds", words, [], {(): config.reloaded_at})
    reloads = {("taken",): config.taken, ("refused",): config.refused, ("taken_back",): config.taken_back}
    yield _counter("config_reloads", "Reloads of the config, by how they ended.", ["outcome"], reloads)
    pending = {("recycle",): config.trying, ("restart",): config.waiting}
    yield _gauge("config_settings_pending", "Settings that are written and not in force yet.", ["until"], pending)


def _gauge(name: str, words: str, labels: Sequence[str], samples: Mapping[Labels, float | None]) -> Metric:
    return _filled(GaugeMetricFamily(f"gemmad_{name}", words, labels=labels), samples)


def _counter(name: str, words: str, labels: Sequence[str], samples: Mapping[Labels, float | None]) -> Metric:
    return _filled(CounterMetricFamily(f"gemmad_{name}", words, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: Mapping[Labels, float | None]) -> Metric:
    """None has no series."""
    for labels, value in samples.items():
        if value is not None:
            family.add_metric(labels, value)
    return family
