"""What is known of one HTTP request, for its line in the log. Never what people wrote."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request

REQUEST_ID_LIMIT = 128


@dataclass(slots=True)
class Record:
    """Filled in while the request is served; the edge writes it when the request ends."""

    request_id: str
    method: str
    path: str
    began: float
    """On the edge's clock."""
    retry_count: int | None = None
    """`x-stainless-retry-count`: how often the client's SDK has tried before."""
    read_timeout: float | None = None
    """`x-stainless-read-timeout`: seconds that it waits for bytes."""
    key: str | None = None
    """Name of the API key that it came with."""
    noteworthy: bool = False
    """Logged as INFO; what only asks about health and models is DEBUG."""
    status: int = 0
    model: str | None = None
    stream: bool | None = None
    images: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    ttft_seconds: float | None = None
    finish: str | None = None
    """stop, length, tool_calls, error or gone."""
    error: str | None = None
    """The code of the error that the client was told."""

    def fields(self, seconds: float) -> dict[str, Any]:
        """The line's values; what never came to be known is left out."""
        values = {name: getattr(self, name) for name in self.__slots__ if name not in ("began", "noteworthy")}
        return {name: value for name, value in values.items() if value is not None} | {"seconds": round(seconds, 4)}


def new_record(headers: Headers, *, method: str, path: str, began: float) -> Record:
    """The record of a request that has just come in."""
    return Record(
        request_id=_request_id(headers.get("x-request-id", "")),
        method=method,
        path=path[:200],
        began=began,
        retry_count=_count(headers.get("x-stainless-retry-count", "")),
        read_timeout=_seconds(headers.get("x-stainless-read-timeout", "")),
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
