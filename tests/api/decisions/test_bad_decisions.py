"""Requests for decisions that cannot be honoured: each is a 400 that names the field."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.stage import MODEL, Stage
from tests.api.test_bad_input import refused
from tests.fakes.media_pictures import data_url, noise, saved

URL = "/v1/decisions"
ASK: Any = {"type": "predicate", "instructions": "x"}
PICK: Any = {"type": "choice", "instructions": "x", "choices": [{"value": "a"}, {"value": "b"}]}
RATE: Any = {"type": "score", "instructions": "x", "levels": [{"label": "a"}, {"label": "b"}]}
CALL: Any = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def said(role: str, *parts: Any) -> Any:
    return [{"role": role, "content": list(parts)}]


def nested(depth: int) -> Any:
    data: Any = {}
    for _ in range(depth - 1):
        data = {"a": data}
    return data


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": "other"}, "model"),
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"input": []}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "reasoning"}]}, "input[0]"),
        ({"input": said("user")}, "input[0].content"),
        ({"input": said("user", {"type": "text", "text": "x"})}, "input[0].content[0]"),
        ({"input": said("user", {"type": "input_text"})}, "input[0].content[0].text"),
        ({"input": said("user", {"type": "output_text", "text": "x"})}, "input[0].content[0].type"),
        ({"input": said("assistant", {"type": "input_text", "text": "x"})}, "input[0].content[0].type"),
        ({"input": said("system", {"type": "input_image", "image_url": "data:,"})}, "input[0].content[0].type"),
        ({"input": said("user", {"type": "input_image", "file_id": "f"})}, "input[0].content[0].image_url"),
        ({"input": said("user", {"type": "input_image", "image_url": "data:,x"})}, "input[0].content[0].image_url"),
        ({"input": said("user", {"type": "input_json", "data": 1})}, "input[0].content[0].data"),
        ({"input": said("user", {"type": "input_json", "data": [1]})}, "input[0].content[0].data"),
        ({"input": said("user", {"type": "input_json", "data": nested(33)})}, "input[0].content[0].data"),
        ({"input": said("user", {"type": "input_json", "data": {"a": [1] * 10_000}})}, "input[0].content[0].data"),
        ({"input": said("user", {"type": "input_json", "data": {"a": "x" * (256 << 10)}})}, "input[0].content[0].data"),
        ({"input": said("user", {"type": "input_json", "data": {"a": [[2**70]] * 9_999}})}, "input[0].content[0].data"),
        ({"input": [{**CALL, "arguments": None}]}, "input[0].arguments"),
        ({"input": [CALL, {"type": "function_call_output", "call_id": "d", "output": "x"}]}, "input[1].call_id"),
        ({"input": [CALL, {"type": "custom_tool_call_output", "call_id": "c", "output": "x"}]}, "input[1].call_id"),
        ({"input": [CALL, {"type": "function_call_output", "call_id": "c", "output": 1}]}, "input[1].output"),
        ({"input": [CALL, *[{"type": "function_call_output", "call_id": "c", "output": "x"}] * 2]}, "input"),
        ({"questions": None}, "questions"),
        ({"questions": []}, "questions"),
        ({"questions": [ASK] * 401}, "questions"),
        ({"questions": ["x"]}, "questions[0]"),
        ({"questions": [ASK, {"type": "rank"}]}, "questions[1]"),
        ({"questions": [{"type": "predicate"}]}, "questions[0].instructions"),
        ({"questions": [{**ASK, "instructions": ""}]}, "questions[0].instructions"),
        ({"questions": [{**ASK, "instructions": []}]}, "questions[0].instructions"),
        (
            {"questions": [{**ASK, "instructions": [{"type": "refusal", "refusal": "x"}]}]},
            "questions[0].instructions[0].type",
        ),
        ({"questions": [{**ASK, "name": 1}]}, "questions[0].name"),
        ({"questions": [{**PICK, "choices": None}]}, "questions[0].choices"),
        ({"questions": [{**PICK, "choices": [{"value": "a"}]}]}, "questions[0].choices"),
        ({"questions": [{**PICK, "choices": [{"value": str(i)} for i in range(256)]}]}, "questions[0].choices"),
        ({"questions": [{**PICK, "choices": [{"value": 1}, {"value": "b"}]}]}, "questions[0].choices[0].value"),
        ({"questions": [{**PICK, "choices": [{"value": "b"}, {"value": ""}]}]}, "questions[0].choices[1].value"),
        ({"questions": [{**PICK, "choices": [{"value": "b"}] * 2}]}, "questions[0].choices[1].value"),
        ({"questions": [{**PICK, "choices": [{"value": True}] * 2}]}, "questions[0].choices[1].value"),
        ({"questions": [{**RATE, "levels": [{"label": "a"}]}]}, "questions[0].levels"),
        ({"questions": [{**RATE, "levels": [{"label": "a"}] * 11}]}, "questions[0].levels"),
        ({"questions": [{**RATE, "levels": [{"label": "a"}, {"label": ""}]}]}, "questions[0].levels[1].label"),
    ],
)
def test_bad_fields(stage: Stage, http: httpx.Client, change: dict[str, Any], param: str) -> None:
    """No worker hears of it."""
    body = {"model": MODEL, "input": "x", "questions": [ASK], **change}
    response = http.post(URL, json={name: value for name, value in body.items() if value is not None})
    assert refused(response, 404 if change == {"model": "other"} else 400)["param"] == param
    assert stage.worker.submits == []


def test_too_long(stage: Stage, http: httpx.Client) -> None:
    """What does not fit into the context is refused with the numbers, and blamed on what is too long."""
    long = "word " * 9000
    error = refused(http.post(URL, json={"model": MODEL, "input": long, "questions": [ASK]}))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    questions = [ASK, {**ASK, "instructions": long}]
    error = refused(http.post(URL, json={"model": MODEL, "input": "x", "questions": questions}))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "questions[1].instructions")
    assert "8192" in error["message"]
    assert stage.worker.submits == []


def test_too_many_images(stage: Stage, http: httpx.Client) -> None:
    """Images of input and questions count together; the first that is too many is named."""
    image = {"type": "input_image", "image_url": data_url(saved(noise(), "PNG"))}
    body = {"model": MODEL, "input": said("user", image, image), "questions": [ASK, {**ASK, "instructions": [image]}]}
    with stage.settings(media={"max_images": 2}):
        error = refused(http.post(URL, json=body))
    assert error["param"] == "questions[1].instructions[0].image_url"


def test_not_ready(stage: Stage, http: httpx.Client) -> None:
    """While the model is loading there are no answers."""
    stage.served = False
    body = {"model": MODEL, "input": "x", "questions": [ASK]}
    assert refused(http.post(URL, json=body), 503)["code"] == "service_unavailable"


def test_the_cache_hints(stage: Stage, http: httpx.Client) -> None:
    """What needs no attention may be anything that the SDK can send."""
    text = {"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}
    hints = {"prompt_cache_key": "k", "prompt_cache_options": {"ttl": "30m"}, "safety_identifier": None}
    body = {"model": "other", "input": said("user", text), "questions": [ASK], **hints}
    assert refused(http.post(URL, json=body), 404)["code"] == "model_not_found"
    assert stage.worker.submits == []
