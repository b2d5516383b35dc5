"""What is known of one HTTP request, for its line in the log and its spans. Never what people wrote."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct
from starlette.datastructures import Headers
from starlette.requests import Request

from gemmad.api.operations import operation_of
from gemmad.dispatch.journey import Journey
from gemmad.generation import SamplingParams
from gemmad.tracing.context import TraceContext, read_context

REQUEST_ID_LIMIT = 128
MOST_KEPT = 64
"""Of the phases and journeys of one request; a request may have thousands."""

LINE = (
    "request_id",
    "trace_id",
    "method",
    "path",
    "status",
    "key",
    "model",
    "response_id",
    "stream",
    "background",
    "images",
    "choices",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "queue_seconds",
    "ttft_seconds",
    "workers",
    "failovers",
    "finish",
    "error",
    "retry_count",
    "read_timeout",
    "seconds",
)
"""Fields of a request's line, in this order. What never came to be known is left out."""


class Phase(Struct, frozen=True):
    """A stretch of time before a request is in the queue, on the edge's clock."""

    name: str
    began_at: float
    ended_at: float
    attributes: dict[str, str | int] = {}


@dataclass(slots=True, eq=False)
class Record:
    """Filled in while the request is served; whoever lets go of it last has it written."""

    request_id: str
    method: str
    path: str
    began: float
    """On the edge's clock."""
    clock: Callable[[], float] = time.monotonic
    retry_count: int | None = None
    """`x-stainless-retry-count`: how often the client's SDK has tried before."""
    read_timeout: float | None = None
    """`x-stainless-read-timeout`: seconds that it waits for bytes."""
    trace: TraceContext | None = None
    """The trace that it belongs to: its caller's, or one that begins with it."""
    key: str | None = None
    """Name of the API key that it came with."""
    status: int = 0
    model: str | None = None
    response_id: str | None = None
    """What the reply is called in its own body."""
    stream: bool | None = None
    background: bool | None = None
    """The reply was made after its answer; True or nothing."""
    images: int | None = None
    choices: int | None = None
    """How many replies were asked for, if not one."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    ttft_seconds: float | None = None
    queue_seconds: float | None = None
    """That it waited for workers; of several choices, the longest."""
    workers: list[str] = field(default_factory=list)
    """Who had it, in the order in which they got it."""
    failovers: int | None = None
    """Times that a worker was gone and it went on at another; None while none has had it."""
    finish: str | None = None
    """stop, length, tool_calls, error or gone."""
    error: str | None = None
    """The code of the error that the client was told."""

    # for spans
    sampling: SamplingParams | None = None
    has_seed: bool = False
    """The client chose it."""
    phases: list[Phase] = field(default_factory=list)
    journeys: list[Journey] = field(default_factory=list)
    on_over: Callable[[Record], None] = lambda _record: None
    holders: int = 1
    """Who may still have something to note: the edge, and what goes on in the background."""

    @property
    def operation(self) -> str | None:
        """What it asks for; None if it is no reply, and then its line is DEBUG."""
        return operation_of(self.method, self.path)

    @contextmanager
    def phase(self, name: str, **attributes: str | int) -> Iterator[None]:
        """Note how long something takes."""
        began = self.clock()
        try:
            yield
        finally:
            if len(self.phases) < MOST_KEPT:
                self.phases.append(Phase(name, began, self.clock(), attributes))

    def note_journey(self, journey: Journey) -> None:
        """One of its tickets has ended."""
        if len(self.journeys) < MOST_KEPT:
            self.journeys.append(journey)
        self.queue_seconds = max(self.queue_seconds or 0.0, round(journey.queue_seconds, 4))
        for stay in journey.stays:
            self.failovers = (self.failovers or 0) + stay.lost
            if stay.worker not in self.workers:
                self.workers.append(stay.worker)

    def hold(self) -> None:
        """It is not over when its answer is; `release` follows."""
        self.holders += 1

    def release(self) -> None:
        """Nothing more is noted by whoever held it. The last one ends it."""
        self.holders -= 1
        if self.holders == 0:
            self.on_over(self)

    def fields(self, seconds: float) -> dict[str, Any]:
        """The line's values."""
        values = {name: getattr(self, name, None) for name in LINE}
        values["trace_id"] = None if self.trace is None else self.trace.trace_id
        values["workers"] = ",".join(self.workers) or None
        values["seconds"] = round(seconds, 4)
        if self.finish is None and self.error is not None and self.operation is not None:
            values["finish"] = "refused"
        return {name: value for name, value in values.items() if value is not None}


def new_record(
    headers: Headers, *, method: str, path: str, began: float, clock: Callable[[], float] = time.monotonic
) -> Record:
    """The record of a request that has just come in."""
    return Record(
        request_id=_request_id(headers.get("x-request-id", "")),
        method=method,
        path=path[:200],
        began=began,
        clock=clock,
        retry_count=_count(headers.get("x-stainless-retry-count", "")),
        read_timeout=_seconds(headers.get("x-stainless-read-timeout", "")),
        trace=read_context(headers.getlist("traceparent"), headers.getlist("tracestate")),
    )


def new_request_id() -> str:
    """An id for a request whose client has none."""
    return f"req_{uuid.uuid4().hex}"


def record_of(request: Request) -> Record:
    """The record that the edge made for this request."""
    record: Record = request.scope["state"]["record"]
    return record


def _request_id(asked: str) -> str:
    asked = asked.strip()
    if asked and len(asked) <= REQUEST_ID_LIMIT and asked.isascii() and asked.isprintable():
        return asked
    return new_request_id()


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _seconds(text: str) -> float | None:
    try:
        return round(float(text[:20]), 3)
    except ValueError:
        return None
