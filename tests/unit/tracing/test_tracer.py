from __future__ import annotations

import importlib
import time

import pytest

from gemmad.errors import ConfigError
from gemmad.tracing.context import TraceContext
from gemmad.tracing.span import Span, Told
from gemmad.tracing.tracer import FLUSH_SECONDS, Tracer, open_tracer, require_extra
from tests.fakes.collector import Collector, attributes

CALLER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True, "congo=t61")
NOW = 1_700_000_000.25


def tree() -> Span:
    first = Span(name="worker", began_at=NOW + 1, ended_at=NOW + 2, error="it was killed")
    second = Span(name="worker", began_at=NOW + 2, ended_at=NOW + 3, after=first)
    return Span(
        name="chat gemma",
        began_at=NOW,
        ended_at=NOW + 3,
        attributes={"gen_ai.usage.input_tokens": 7, "gen_ai.response.finish_reasons": ("stop",)},
        children=(first, second),
    )


def test_whose_word_counts() -> None:
    """A caller's decision is kept either way; without one the share decides, live."""
    share = [0.0]
    tracer = Tracer(lambda _told: None, share=lambda: share[0])
    unwanted = TraceContext(CALLER.trace_id, CALLER.parent_id, False)
    assert tracer.begin(CALLER) == CALLER
    assert tracer.begin(unwanted) == unwanted
    assert tracer.begin(None) is None
    share[0] = 1.0
    begun = tracer.begin(None)
    assert begun is not None
    assert begun.sampled
    assert tracer.begin(unwanted) == unwanted


def test_spans_as_a_collector_gets_them() -> None:
    """Ids, parents, links, times, values and failures arrive as they were, in the caller's trace."""
    with Collector() as collector:
        tracer = open_tracer(collector.url, share=lambda: 1.0, version="1.2.3")
        assert tracer is not None
        tracer.tell(CALLER, tree())
        tracer.close()
        root, first, second = collector.spans
    assert {span.trace_id.hex() for span in collector.spans} == {CALLER.trace_id}
    assert (root.parent_span_id.hex(), root.trace_state) == (CALLER.parent_id, "congo=t61")
    assert first.parent_span_id == second.parent_span_id == root.span_id
    assert [link.span_id for link in second.links] == [first.span_id]
    assert root.start_time_unix_nano == 1_700_000_000_250_000_000
    assert root.end_time_unix_nano - root.start_time_unix_nano == 3_000_000_000
    assert (root.kind, first.kind) == (root.SPAN_KIND_SERVER, root.SPAN_KIND_INTERNAL)
    assert (first.status.code, first.status.message) == (first.status.STATUS_CODE_ERROR, "it was killed")
    assert attributes(root) == {"gen_ai.usage.input_tokens": 7, "gen_ai.response.finish_reasons": ["stop"]}
    assert (collector.resource["service.name"], collector.resource["service.version"]) == ("gemmad", "1.2.3")


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
def test_addresses(path: str) -> None:
    """The collector's address may have the signal's path or not."""
    with Collector() as collector:
        tracer = open_tracer(collector.url + path, share=lambda: 1.0, version="1")
        assert tracer is not None
        tracer.tell(CALLER, tree())
        tracer.close()
        assert len(collector.spans) == 3


@pytest.mark.parametrize("trouble", ["dead", "hangs", "refuses"])
def test_a_collector_in_trouble(trouble: str) -> None:
    """Whatever is wrong with the collector, telling takes no time and closing not longer than it may."""
    with Collector(hangs=trouble == "hangs", status=503 if trouble == "refuses" else 200) as collector:
        url = "http://127.0.0.1:9" if trouble == "dead" else collector.url
        tracer = open_tracer(url, share=lambda: 1.0, version="1")
        assert tracer is not None
        began = time.monotonic()
        for _ in range(3000):
            tracer.tell(CALLER, tree())
        told = time.monotonic()
        tracer.close()
        assert told - began < 1
        assert time.monotonic() - told < FLUSH_SECONDS + 2


def test_without_a_collector_there_is_nothing() -> None:
    """No endpoint: no tracer, and nothing is looked for."""
    assert open_tracer(None, share=lambda: 1.0, version="1") is None
    require_extra(None, load=pytest.fail)


def test_without_the_extra() -> None:
    """An endpoint without OpenTelemetry is a mistake in the settings, with the command that mends it."""

    def load(name: str) -> object:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return importlib.import_module(name)

    with pytest.raises(ConfigError, match=r"tracing\.endpoint: .*pip install 'gemmad\[otel\]'"):
        require_extra("http://127.0.0.1:4318", load=load)


def test_what_is_told_is_plain() -> None:
    """Who has a tracer needs nothing of OpenTelemetry."""
    told: list[Told] = []
    root = tree()
    Tracer(told.append, share=lambda: 1.0).tell(CALLER, root)
    assert told == [Told(CALLER, root)]
