"""Spans as OpenTelemetry's own, sent by OTLP over HTTP. The only module that imports it: the extra `gemmad[otel]`."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator, Sequence

from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as SdkEvent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from gemmad.tracing.context import TraceContext, new_id
from gemmad.tracing.span import Event, Span, Told

SIGNAL_PATH = "/v1/traces"
SEND_SECONDS = 5.0
"""For one batch, attempts after the first included."""
MOST_BYTES = 4 << 20
"""Of one batch; a bigger one is not sent."""


class Exporter:
    """Where batches go."""

    def __init__(self, endpoint: str, *, version: str) -> None:
        """`endpoint` is the collector's address, with or without the path of the signal. Headers, certificates and
        compression are taken from OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_HEADERS` and so on)."""
        base = endpoint.rstrip("/")
        self.url = base if base.endswith(SIGNAL_PATH) else base + SIGNAL_PATH
        self._scope = InstrumentationScope("gemmad", version)
        self._resource = Resource.create(
            {
                "service.name": os.environ.get("OTEL_SERVICE_NAME") or "gemmad",
                "service.version": version,
                "service.instance.id": str(uuid.uuid4()),
            }
        )
        self._sender = trace_exporter.OTLPSpanExporter(self.url, timeout=SEND_SECONDS, max_request_size=MOST_BYTES)
        self._overheard = _Overheard()
        logging.getLogger(trace_exporter.__name__).addFilter(self._overheard)
        logging.getLogger("urllib3").setLevel(logging.WARNING)

    def send(self, batch: Sequence[Told]) -> str | None:
        """Why it was not taken, or None. Takes `SEND_SECONDS`, or as long as the collector dribbles."""
        self._overheard.words = ""
        spans = [span for told in batch for span in self._readable(told)]
        try:
            if self._sender.export(spans) is SpanExportResult.SUCCESS:
                return None
        except Exception as error:  # whatever the library fails over, the thread goes on
            return repr(error)
        return self._overheard.words or "the collector did not take them"

    def close(self) -> None:
        """Give up what is being tried again, and send no more."""
        self._sender.shutdown()  # type: ignore[no-untyped-call]
        logging.getLogger(trace_exporter.__name__).removeFilter(self._overheard)

    def _readable(self, told: Told) -> Iterator[ReadableSpan]:
        """Parents first."""
        state = TraceState.from_header([told.context.state]) if told.context.state else TraceState()
        made: dict[int, SpanContext] = {}
        caller = None
        if told.context.parent_id:
            caller = _context(told.context, told.context.parent_id, state, is_remote=True)
        waiting: list[tuple[Span, SpanContext | None]] = [(told.root, caller)]
        while waiting:
            span, parent = waiting.pop()
            context = made[id(span)] = _context(told.context, new_id(8), state, is_remote=False)
            waiting += [(child, context) for child in reversed(span.children)]
            before = None if span.after is None else made.get(id(span.after))
            yield ReadableSpan(
                span.name,
                context=context,
                parent=parent,
                resource=self._resource,
                attributes=dict(span.attributes),
                events=[_event(event) for event in span.events],
                links=[] if before is None else [Link(before)],
                kind=SpanKind.SERVER if span is told.root else SpanKind.INTERNAL,
                status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
                start_time=_nanoseconds(span.began_at),
                end_time=_nanoseconds(max(span.began_at, span.ended_at)),
                instrumentation_scope=self._scope,
            )


class _Overheard(logging.Filter):
    """The exporter tells only its log why; here the first that it says of a batch is kept, which names the cause, and
    nothing is logged for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.words = self.words or record.getMessage()[:300]
        return False


def _context(trace: TraceContext, span_id: str, state: TraceState, *, is_remote: bool) -> SpanContext:
    return SpanContext(int(trace.trace_id, 16), int(span_id, 16), is_remote, TraceFlags(TraceFlags.SAMPLED), state)


def _event(event: Event) -> SdkEvent:
    return SdkEvent(event.name, dict(event.attributes), timestamp=_nanoseconds(event.at))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e6) * 1000  # a float holds no finer time since the epoch
