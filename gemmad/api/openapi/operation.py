"""What an operation of the API is described by. The description is data: `document` puts it into OpenAPI's words."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct
from pydantic import BaseModel

from gemmad.api.errors import Envelope
from gemmad.api.openai.parameters import Parameter

Method = Literal["get", "post", "delete"]

SSE = "Server-sent events, lines ended by a bare line feed; comment lines come while nothing is said."


class Query(Struct, frozen=True):
    """A parameter of the URL's query."""

    name: str
    schema: dict[str, Any]
    note: str


class Stream(Struct, frozen=True):
    """What comes instead of an answer when `stream` is true."""

    events: tuple[Any, ...]
    """Types of what each event has as its data."""
    note: str
    media_type: str = "text/event-stream"


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path."""

    method: Method
    path: str
    """With names of its variables in braces."""
    name: str
    """Unique, for generated clients."""
    summary: str
    tag: str
    answer: Any
    """Type of the JSON that a 200 has, or a media type of text."""
    body: type[BaseModel] | None = None
    fields: tuple[Parameter, ...] = ()
    """Of the body: what becomes of each."""
    parts: tuple[tuple[str, tuple[Parameter, ...]], ...] = ()
    """The same for what is in the body, by what it is called."""
    query: tuple[Query, ...] = ()
    stream: Stream | None = None
    error: Any = Envelope
    """Type of the JSON that a refusal has."""
    refuses: frozenset[int] = frozenset()
    """Statuses of refusals, beyond those that every operation of its kind has."""
    also: frozenset[int] = frozenset()
    """Statuses, other than 200, that come with `answer`."""
    open: bool = False
    """Needs no key."""
