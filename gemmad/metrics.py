"""What Prometheus is told. Durations are observed as they happen; everything else is read when somebody asks."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2.5)
_REQUEST_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560)


class WorkerReading(Struct, frozen=True, kw_only=True):
    """One worker, as of now."""

    name: str
    state: str
    starts: int
    kv_usage_ratio: float | None = None
    """Of the fuller of its two page pools."""
    preemptions: int = 0
    prompt_tokens: int = 0
    """Of prompts that it has begun, and of those"""
    cached_tokens: int = 0
    """the ones that its prefix cache held."""
    host_rss_bytes: int = 0
    device_bytes: int = 0
    planned_bytes: int = 0
    """On its device, the reserve included."""
    device_segments: int = 0


class ConfigReading(Struct, frozen=True, kw_only=True):
    """How the daemon's settings stand to those that are written."""

    is_good: bool = True
    """Whether the last reload was taken, and nothing of it taken back."""
    reloaded_at: float = 0.0
    """When that was, in seconds since the epoch; 0 before the first."""
    taken: int = 0
    """Reloads so far, those that were not taken, and trials of settings that no worker got ready with:"""
    refused: int = 0
    taken_back: int = 0
    trying: int = 0
    """Settings that a worker tries now, and those that wait for the daemon's next start:"""
    waiting: int = 0


class Reading(Struct, frozen=True, kw_only=True):
    """The daemon, as of now. Totals are since its start."""

    version: str
    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    failovers: int = 0
    quarantined: int = 0
    workers: tuple[WorkerReading, ...] = ()
    config: ConfigReading = ConfigReading()


class Metrics:
    """One registry for each daemon, so that two in one process (in tests) do not meet."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, read: Callable[[], Reading], *, states: Iterable[str] = ()) -> None:
        """`states` are all that a worker can be in; those it is not in are shown as 0."""
        self._registry = CollectorRegistry()
        self._registry.register(_Readings(read, tuple(states)))
        self.requests = Counter(
            "gemmad_requests", "Requests for a reply, by how they ended.", ["outcome"], registry=self._registry
        )
        self.first_token = Histogram(
            "gemmad_time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=self._registry,
        )
        self.inter_token = Gaps("gemmad_inter_token_latency_seconds", "Between tokens of one reply.", _TOKEN_BUCKETS)
        self._registry.register(self.inter_token)
        self.whole_request = Histogram(
            "gemmad_e2e_request_latency_seconds",
            "From a request's arrival to the end of its reply.",
            buckets=_REQUEST_BUCKETS,
            registry=self._registry,
        )

    def render(self) -> bytes:
        """The text format."""
        return generate_latest(self._registry)


class Gaps(Collector):
    """A histogram that is cheap to fill, for what happens with every token: the loop is its only writer, so it needs
    none of the locks of prometheus_client's own."""

    def __init__(self, name: str, documentation: str, buckets: Sequence[float]) -> None:
        """`buckets`: their upper bounds in seconds, rising."""
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect.bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[Metric]:
        """As of now."""
        bounds = (*map(floatToGoString, self._bounds), "+Inf")
        buckets = list(zip(bounds, itertools.accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


class _Readings(Collector):
    def __init__(self, read: Callable[[], Reading], states: tuple[str, ...]) -> None:
        self._read = read
        self._states = states

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not read what may not be there yet."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """One reading as metrics."""
        reading = self._read()
        yield GaugeMetricFamily("gemmad_requests_running", "Requests at a worker.", reading.running)
        yield GaugeMetricFamily("gemmad_requests_waiting", "Requests in the queue.", reading.waiting)
        yield CounterMetricFamily("gemmad_prompt_tokens", "Prompt tokens of finished requests.", reading.prompt_tokens)
        yield CounterMetricFamily("gemmad_generation_tokens", "Tokens generated.", reading.generated_tokens)
        yield CounterMetricFamily("gemmad_failovers", "Requests that went on at another worker.", reading.failovers)
        yield CounterMetricFamily(
            "gemmad_quarantined_requests", "Requests refused because workers died of them.", reading.quarantined
        )
        yield from _config(reading.config)
        build = GaugeMetricFamily("gemmad_build_info", "Which gemmad this is.", labels=["version"])
        build.add_metric([reading.version], 1)
        yield build
        yield from self._workers(reading.workers)

    def _workers(self, workers: tuple[WorkerReading, ...]) -> Iterator[Metric]:
        state = GaugeMetricFamily("gemmad_worker_state", "1 for the state it is in.", labels=["worker", "state"])
        starts = CounterMetricFamily("gemmad_worker_starts", "Processes started for it.", labels=["worker"])
        usage = GaugeMetricFamily("gemmad_kv_cache_usage_ratio", "Of the fuller page pool.", labels=["worker"])
        preemptions = CounterMetricFamily(
            "gemmad_preemptions", "Requests set back for lack of pages, this life.", labels=["worker"]
        )
        queries = CounterMetricFamily(
            "gemmad_prefix_cache_queries", "Tokens of prompts that it has begun, this life.", labels=["worker"]
        )
        hits = CounterMetricFamily(
            "gemmad_prefix_cache_hits", "Those of them that its prefix cache held, this life.", labels=["worker"]
        )
        rss = GaugeMetricFamily("gemmad_host_rss_bytes", "Resident memory of its process.", labels=["worker"])
        vram = GaugeMetricFamily("gemmad_vram_bytes", "Memory on its device.", labels=["worker", "kind"])
        segments = GaugeMetricFamily(
            "gemmad_device_segments",
            "Taken from its device in this life; constant once it is ready.",
            labels=["worker"],
        )
        for worker in workers:
            for name in self._states:
                state.add_metric([worker.name, name], name == worker.state)
            starts.add_metric([worker.name], worker.starts)
            if worker.kv_usage_ratio is not None:
                usage.add_metric([worker.name], worker.kv_usage_ratio)
            preemptions.add_metric([worker.name], worker.preemptions)
            queries.add_metric([worker.name], worker.prompt_tokens)
            hits.add_metric([worker.name], worker.cached_tokens)
            rss.add_metric([worker.name], worker.host_rss_bytes)
            vram.add_metric([worker.name, "planned"], worker.planned_bytes)
            vram.add_metric([worker.name, "reserved"], worker.device_bytes)
            segments.add_metric([worker.name], worker.device_segments)
        yield from (state, starts, usage, preemptions, queries, hits, rss, vram, segments)


def _config(config: ConfigReading) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "gemmad_config_reload_success", "Whether the config as it is written is in force.", config.is_good
    )
    yield GaugeMetricFamily(
        "gemmad_config_reload_timestamp_seconds", "When the config was last read again.", config.reloaded_at
    )
    reloads = CounterMetricFamily(
        "gemmad_config_reloads", "Reloads of the config, by how they ended.", labels=["outcome"]
    )
    reloads.add_metric(["taken"], config.taken)
    reloads.add_metric(["refused"], config.refused)
    reloads.add_metric(["taken_back"], config.taken_back)
    yield reloads
    settings = GaugeMetricFamily(
        "gemmad_config_settings_pending", "Settings that are written and not in force yet.", labels=["until"]
    )
    settings.add_metric(["recycle"], config.trying)
    settings.add_metric(["restart"], config.waiting)
    yield settings
