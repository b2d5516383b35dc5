"""What becomes of a request, as a tree of spans. Plain values: nothing here knows OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gemmad.tracing.context import TraceContext

Value = str | int | float | bool | tuple[str, ...]


class Event(Struct, frozen=True):
    """Something that happened within a span."""

    name: str
    at: float
    """Seconds since the epoch."""
    attributes: Mapping[str, Value] = {}


class Span(Struct, frozen=True, kw_only=True):
    """A stretch of time. Times are seconds since the epoch."""

    name: str
    began_at: float
    ended_at: float
    attributes: Mapping[str, Value] = {}
    events: tuple[Event, ...] = ()
    error: str | None = None
    """Why it failed, if it did."""
    after: Span | None = None
    """One of the same tree, told before it, that it takes up: a link."""
    children: tuple[Span, ...] = ()


class Told(Struct, frozen=True):
    """One request's spans, to be sent."""

    context: TraceContext
    root: Span
