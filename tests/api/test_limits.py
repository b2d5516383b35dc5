"""Limits that hold on every endpoint that reads a body, whichever dialect it speaks."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gemmad.api.openapi.operation import Operation
from gemmad.api.openapi.operations import OPERATIONS
from tests.api.stage import MODEL, Stage
from tests.fakes.media_pictures import data_url, noise, saved

WITH_BODIES = [operation for operation in OPERATIONS if operation.body is not None]
EVERY = pytest.mark.parametrize("operation", WITH_BODIES, ids=lambda operation: operation.name)


@EVERY
def test_large_bodies(stage: Stage, http: httpx.Client, operation: Operation) -> None:
    """One byte over `server.max_body` is a 413, whether it is announced or not."""
    with stage.settings(server={"max_body": 1024}):
        announced = http.post(operation.path, content=b"{" + b" " * 1023 + b"}")
        streamed = http.post(operation.path, content=iter([b"{", b" " * 1023, b"}"]))
        assert announced.status_code == streamed.status_code == 413
        assert http.post(operation.path, content=b"{" + b" " * 1022 + b"}").status_code != 413


@EVERY
@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b'{"model": NaN}', b"\xff", b'{"a":' * 500, b'{"a": [' + b"[]," * 400_000 + b"1]}"],
)
def test_what_is_no_object(stage: Stage, http: httpx.Client, operation: Operation, body: bytes) -> None:
    """Whatever is no JSON object, or one of too many values, is a 400."""
    with stage.settings(server={"max_body": 2 << 20}):
        assert http.post(operation.path, content=body).status_code == 400


def many_images(count: int, kind: str) -> list[Any]:
    url = data_url(saved(noise(8, 8), "PNG"))
    data = url.partition(",")[2]
    match kind:
        case "chat":
            return [{"type": "image_url", "image_url": {"url": url}}] * count
        case "responses":
            return [{"type": "input_image", "image_url": url}] * count
        case "anthropic":
            return [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}] * count
        case _:
            return [data] * count


def with_images(name: str, count: int) -> dict[str, Any]:
    """A body of this operation that shows so many images."""
    if name.startswith("ollama"):
        images = many_images(count, "ollama")
        if name == "ollama_generate":
            return {"model": MODEL, "prompt": "Hi", "images": images, "stream": False}
        return {"model": MODEL, "messages": [{"role": "user", "content": "Hi", "images": images}], "stream": False}
    if "message" in name:
        content = many_images(count, "anthropic")
        return {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": content}]}
    if name == "create_chat_completion":
        return {"model": MODEL, "messages": [{"role": "user", "content": many_images(count, "chat")}]}
    body: dict[str, Any] = {"model": MODEL, "input": [{"role": "user", "content": many_images(count, "responses")}]}
    if name == "create_decision":
        body["questions"] = [{"type": "predicate", "instructions": "It is noise."}]
    return body


@pytest.mark.parametrize(
    "name",
    [
        "create_chat_completion",
        "create_response",
        "count_input_tokens",
        "create_decision",
        "create_message",
        "count_message_tokens",
        "ollama_chat",
        "ollama_generate",
    ],
)
def test_many_images(stage: Stage, http: httpx.Client, name: str) -> None:
    """One image more than `media.max_images` is a 400 that says how many may be."""
    (path,) = (operation.path for operation in OPERATIONS if operation.name == name)
    with stage.settings(media={"max_images": 2}):
        answer = http.post(path, json=with_images(name, 3))
    assert answer.status_code == 400
    assert "2 images at most" in answer.text
