"""The SDK's own types as judges: every body and every event must validate strictly, not only be constructible."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args, get_origin

import httpx
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def _event_types() -> dict[str, type[BaseModel]]:
    union = get_args(ResponseStreamEvent)[0] if get_origin(ResponseStreamEvent) is Annotated else ResponseStreamEvent
    return {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(union)}


EVENT_TYPES = _event_types()


def checked_response(body: bytes | str) -> Response:
    """The response in a body."""
    return Response.model_validate_json(body, strict=True)


def checked_event(data: str) -> dict[str, Any]:
    """The event in a `data:` line."""
    event: dict[str, Any] = json.loads(data)
    EVENT_TYPES[event["type"]].model_validate_json(data, strict=True)
    return event


def checked_events(raw: str, *, first: int = 0) -> list[dict[str, Any]]:
    """All events of a stream: each named like its type, the sequence numbers rising by one from `first`."""
    assert "\r" not in raw
    events = []
    for block in raw.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        name, data = lines
        event = checked_event(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(first, first + len(events)))
    return events


def stream(http: httpx.Client, body: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """The checked events that answer a request."""
    answer = http.post("/v1/responses", json={"stream": True, **body}, **options)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return checked_events(answer.text)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Types of events, without their common prefix."""
    return [event["type"].removeprefix("response.") for event in events]
