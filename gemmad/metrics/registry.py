"""The daemon's metrics: a registry, and what the other rooms observe as it happens."""

from __future__ import annotations

import bisect
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gemmad.metrics.families import families
from gemmad.metrics.reading import Reading

_FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60)
_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2)
_REQUEST_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560)
_OUTCOMES = ("stop", "length", "tool_calls", "error", "gone")


class Metrics:
    """One registry for each daemon, so that two in one process (in tests) do not meet."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(
        self, read: Callable[[], Reading], *, states: Iterable[str] = (), wall: Callable[[], float] = time.time
    ) -> None:
        """`states` are all that a worker can be in; those it is not in are shown as 0."""
        self._registry = registry = CollectorRegistry()
        registry.register(_Readings(read, tuple(states)))
        started = Gauge("gemmad_start_time_seconds", "When the daemon began, since the epoch.", registry=registry)
        started.set(wall())
        self.requests = Counter(
            "gemmad_requests", "Requests for a reply, by how they ended.", ["outcome"], registry=registry
        )
        for outcome in _OUTCOMES:  # a series that begins with 1 has no increase
            self.requests.labels(outcome=outcome)
        self.first_token = Histogram(
            "gemmad_time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self.inter_token = Gaps("gemmad_inter_token_latency_seconds", "Between tokens of one reply.", _TOKEN_BUCKETS)
        registry.register(self.inter_token)
        self.whole_request = Histogram(
            "gemmad_e2e_request_latency_seconds",
            "From a request's arrival to the end of its reply.",
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.memory_alerts = Counter(
            "gemmad_memory_alerts",
            "Times that a threshold of memory was crossed, by level and by which memory.",
            ["level", "about"],
            registry=registry,
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
        yield from families(self._read(), states=self._states)
