"""What cannot be honoured or makes no sense is refused, in OpenAI's shape, with the path of the field."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gemmad.api.openai.responses.parameters import ITEMS, PARTS, RESPONSES
from gemmad.api.openai.responses.schema import CreateRequest
from tests.api.stage import MODEL

USER = {"role": "user", "content": "Hi"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
SEARCH = {"type": "web_search"}


def refused(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/responses", json={"model": MODEL, "input": "Hi", **fields})
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("input", {"input": None}),
        ("input", {"input": []}),
        ("input", {"input": 5}),
        ("input[0]", {"input": [5]}),
        ("input[0]", {"input": [{"type": "made_up"}]}),
        ("input[0].content", {"input": [{"role": "user"}]}),
        ("input[1].role", {"input": [USER, {"role": "robot", "content": "x"}]}),
        ("input[0].content[1]", {"input": [{"role": "user", "content": [IMAGE, {"type": "x"}]}]}),
        ("input[0].content[0].text", {"input": [{"role": "user", "content": [{"type": "input_text"}]}]}),
        ("input[0].content[0].image_url", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
        ("input[0].content[0].file_id", {"input": [{"role": "user", "content": [{**IMAGE, "file_id": "f"}]}]}),
        ("input[0].content[0].image_url", {"input": [{"role": "user", "content": [IMAGE]}]}),
        ("input[0].content[0].type", {"input": [{"role": "assistant", "content": [IMAGE]}]}),
        ("input[1].call_id", {"input": [USER, {"type": "function_call_output", "call_id": "x", "output": "y"}]}),
        ("input[0].arguments", {"input": [{"type": "function_call", "call_id": "x", "name": "y"}]}),
        ("input[0].id", {"input": [{"type": "item_reference", "id": "msg_nothing"}]}),
        ("previous_response_id", {"previous_response_id": "resp_nothing"}),
        ("tools[0].type", {"tools": [{}]}),
        ("tools[0].name", {"tools": [{"type": "function"}]}),
        ("tools[0].name", {"tools": [{"type": "function", "name": "no spaces"}]}),
        ("tools[0].parameters", {"tools": [{"type": "function", "name": "x", "parameters": []}]}),
        ("tools[1].name", {"tools": [TOOL, TOOL]}),
        ("tools[0].tools[0].name", {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]}),
        ("tools[0].type", {"tools": [SEARCH], "tool_choice": "required"}),
        ("tool_choice.type", {"tools": [TOOL, SEARCH], "tool_choice": {"type": "web_search_preview"}}),
        ("tool_choice.name", {"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": "perhaps"}),
        (
            "tool_choice.tools",
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [SEARCH]}},
        ),
        (
            "tool_choice.tools[0].name",
            {
                "tools": [TOOL],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{**TOOL, "name": "x"}]},
            },
        ),
        ("tools", {"tool_choice": "required"}),
        ("text.format.type", {"text": {"format": {"type": "grammar"}}}),
        ("text.format.name", {"text": {"format": {"type": "json_schema", "schema": {}}}}),
        ("text.format.schema", {"text": {"format": {"type": "json_schema", "name": "x"}}}),
        ("max_output_tokens", {"max_output_tokens": 0}),
        ("temperature", {"temperature": "1"}),
        ("top_logprobs", {"top_logprobs": 21}),
        ("truncation", {"truncation": "sometimes"}),
        ("metadata", {"metadata": {str(number): "x" for number in range(17)}}),
        ("metadata", {"metadata": {"a" * 99: "x"}}),
        ("background", {"background": True, "store": False}),
    ],
)
def test_fields_at_fault_are_named(http: httpx.Client, param: str, fields: dict[str, Any]) -> None:
    """An error names the first field at fault by its path in the request."""
    assert refused(http, **fields)["param"] == param


def test_an_unknown_model(http: httpx.Client) -> None:
    """A model that is not served is a 404, as with chat completions."""
    answer = http.post("/v1/responses", json={"model": "gpt-6", "input": "Hi"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("parameter", [one for one in RESPONSES if one.handling == "refused"], ids=lambda one: one.name)
def test_refused_fields(http: httpx.Client, parameter: Any) -> None:
    """Each field that the table refuses is refused by name, and null is not."""
    assert refused(http, **{parameter.name: {"made": "up"}})["param"] == parameter.name
    answer = http.post("/v1/responses", json={"model": MODEL, "input": "Hi", parameter.name: None})
    assert answer.status_code == 200


def test_refused_items_and_parts(http: httpx.Client) -> None:
    """Each type that the tables refuse is refused where it stands."""
    for item in ITEMS:
        if item.handling == "refused":
            assert refused(http, input=[USER, {"type": item.name}])["param"] == "input[1].type"
    for part in PARTS:
        if part.handling == "refused":
            message = {"role": "user", "content": [{"type": part.name}]}
            assert refused(http, input=[message])["param"] == "input[0].content[0].type"


def test_honoured_fields_are_read() -> None:
    """The table calls exactly those fields honoured that the schema reads; what is only told again is ignored."""
    honoured = {one.name for one in RESPONSES if one.handling == "honoured"}
    told_again = {"reasoning", "prompt_cache_key", "safety_identifier", "user"}
    assert set(CreateRequest.model_fields) == honoured | told_again
    assert len({one.name for one in RESPONSES}) == len(RESPONSES)


def test_numbers_that_are_not_finite(http: httpx.Client) -> None:
    """A schema with a number that JSON cannot say is a 400, not a crash."""
    for body in (
        b'{"type": "function", "name": "x", "parameters": {"maximum": 1e999}}',
        b'{"type": "function", "name": "x", "parameters": {"maximum": -1e999}}',
    ):
        content = b'{"model": "%s", "input": "Hi", "tools": [%s]}' % (MODEL.encode(), body)
        answer = http.post("/v1/responses", content=content)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "tools[0].parameters"


def test_other_methods_and_paths(http: httpx.Client) -> None:
    """What is not there is a 404 or a 405 in the same shape."""
    assert http.get("/v1/responses").status_code == 405
    assert http.post("/v1/responses/resp_1/input_items").status_code == 405
    for method, path in (("GET", "/v1/responses/resp_1"), ("POST", "/v1/responses/resp_1/cancel")):
        answer = http.request(method, path)
        assert answer.status_code == 404
        assert "resp_1" in answer.json()["error"]["message"]
