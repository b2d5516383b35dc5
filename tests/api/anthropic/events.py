"""Streams of Anthropic's events, checked as strictly as their order can be."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def events(stream: bytes) -> list[dict[str, Any]]:
    """The data of each event, without pings. Each has the name that its data has, and is what the SDK's types allow."""
    text = stream.decode()
    assert "\r" not in text
    assert text.endswith("\n\n") or not text
    found = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] == "ping":
            assert event == {"type": "ping"}
            continue
        if event["type"] != "error":
            _EVENT.validate_python(event, strict=True)
        found.append(event)
    return found


def put_together(found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The blocks of a whole stream, with arguments as text, and its `message_delta`.

    Head first, block after block, each begun, filled and stopped before the next, then reason and end.
    """
    assert found[0]["type"] == "message_start"
    assert [event["type"] for event in found[-2:]] == ["message_delta", "message_stop"]
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in found[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(blocks)
            blocks.append(dict(event["content_block"]) | {"json": ""})
            is_open = True
            continue
        assert is_open
        assert event["index"] == len(blocks) - 1
        if event["type"] == "content_block_stop":
            is_open = False
            continue
        assert event["type"] == "content_block_delta"
        delta, block = event["delta"], blocks[-1]
        if block["type"] == "text":
            assert delta["type"] == "text_delta"
            block["text"] += delta["text"]
        else:
            assert delta["type"] == "input_json_delta"
            block["json"] += delta["partial_json"]
    assert not is_open
    return blocks, found[-2]
