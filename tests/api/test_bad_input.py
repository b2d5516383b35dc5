"""Requests that cannot be honoured: each is a clear error in OpenAI's shape, and costs nobody else anything."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from gemmad.api.openai.parameters import CHAT
from tests.api.stage import MODEL, Stage
from tests.fakes.media_pictures import bomb, data_url, noise, saved

HI = [{"role": "user", "content": "Hi"}]
URL = "/v1/chat/completions"


def refused(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of an answer that must be one, in the right shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    for key in ("param", "code"):
        assert error[key] is None or isinstance(error[key], str)
    return error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "line 1 column 0"),
        (b"{", "line 1 column 1"),
        (b'{"model": "x",}', "trailing comma at line 1 column 15"),
        (b'{\n "model" "x"}', "line 2 column 10"),
        (b'{"a": NaN}', "line 1 column 7"),
        (b'{"a": -Infinity}', "line 1 column 8"),
        (b'{"a": "\xff\xfe"}', "line 1 column 8"),
        (b'{"a": "\\ud800"}', "line 1 column 14"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "number out of range"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"a":' * 50_000, "recursion limit"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"{} {}", "trailing characters"),
    ],
)
def test_bodies_that_are_no_json_object(http: httpx.Client, body: bytes, words: str) -> None:
    """A body that is not a JSON object is refused with the place where it goes wrong."""
    error = refused(http.post(URL, content=body))
    assert words in error["message"]
    assert error["code"] == "invalid_json"


def test_a_body_of_a_million_values(stage: Stage, http: httpx.Client) -> None:
    """A body that would become millions of objects is refused before it does."""
    with stage.settings(server={"max_body": 64 << 20}):
        error = refused(http.post(URL, content=b"[" + b"[]," * 1_000_000 + b"[]]"))
    assert "values" in error["message"]


def test_a_key_that_stands_twice_counts_last(http: httpx.Client) -> None:
    """Duplicate keys are tolerated; the last one counts."""
    body = json.dumps({"messages": HI})[:-1] + f', "model": "nobody", "model": "{MODEL}"}}'
    assert http.post(URL, content=body).status_code == 200


def test_any_content_type(http: httpx.Client) -> None:
    """What the body is is not asked of its content type."""
    body = json.dumps({"model": MODEL, "messages": HI})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        assert http.post(URL, content=body, headers={"content-type": kind}).status_code == 200


GOOD: dict[str, Any] = {"model": MODEL, "messages": HI}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": None}, "model", "invalid_type"),
        ({"model": 7}, "model", "invalid_type"),
        ({"messages": None}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "Hi"}, "messages", "invalid_type"),
        ({"messages": ["Hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [*HI, {"role": "bishop", "content": "Hi"}]}, "messages[1].role", "invalid_value"),
        ({"messages": [*HI, {"role": ["user"], "content": "Hi"}]}, "messages[1].role", "invalid_value"),
        ({"messages": [*HI, {"role": "user", "content": 3}]}, "messages[1].content", "invalid_type"),
        ({"messages": [*HI, {"role": "user", "content": None}]}, "messages[1].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_value"),
        ({"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0]", "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0]", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "messages[0].content[0].text",
            "invalid_type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "messages[0].content[0].image_url",
            "invalid_type",
        ),
        ({"messages": HI * 5000}, "messages", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"temperature": 2.01}, "temperature", "invalid_value"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"top_p": 1.5}, "top_p", "invalid_value"),
        ({"top_k": 1.5}, "top_k", "invalid_type"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        ({"min_p": 2}, "min_p", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"seed": "1"}, "seed", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens", "invalid_type"),
        ({"max_tokens": 10**40}, "max_tokens", "invalid_value"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens", None),
        ({"stop": 1}, "stop", "invalid_type"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": ["a", ""]}, "stop[1]", "invalid_value"),
        ({"stop": ["a"] * 17}, "stop", "invalid_value"),
        ({"stop": ["a"] * 10_000}, "stop", "invalid_value"),
        ({"stop": "a" * 1001}, "stop", "invalid_value"),
        ({"ignore_eos": 1}, "ignore_eos", "invalid_type"),
        ({"frequency_penalty": 2.1}, "frequency_penalty", "invalid_value"),
        ({"presence_penalty": "much"}, "presence_penalty", "invalid_type"),
        ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
        ({"logit_bias": [5]}, "logit_bias", "invalid_type"),
        ({"logit_bias": {"five": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"05": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"-5": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"5": 101}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"5": True}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {str(each): 1 for each in range(1025)}}, "logit_bias", "invalid_value"),
        ({"logprobs": 1}, "logprobs", "invalid_type"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        ({"response_format": "json"}, "response_format", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": "x"}}},
            "response_format.json_schema.schema",
            "invalid_type",
        ),
        ({"guided_json": 5}, "guided_json", "invalid_type"),
        ({"guided_choice": []}, "guided_choice", "invalid_value"),
        ({"guided_choice": ["a"], "guided_regex": "b"}, "guided_choice", None),
        ({"structured_outputs": {"regex": "a", "json": {}}}, "structured_outputs.regex", None),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name", "invalid_value"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
        ({"tool_choice": "required"}, "tools", None),
        ({"tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
        ({"messages": [*HI, {"role": "assistant"}]}, "messages[1].content", "missing_required_parameter"),
        (
            {"messages": [*HI, {"role": "tool", "content": "4"}]},
            "messages[1].tool_call_id",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "user", "content": "Hi", "tool_calls": [CALL]}]},
            "messages[0].tool_calls",
            "invalid_value",
        ),
        (
            {"messages": [*HI, {"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            "messages[1].tool_calls[0].function",
            "missing_required_parameter",
        ),
        ({"continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt", None),
        ({"add_generation_prompt": False}, "add_generation_prompt", "unsupported_parameter"),
    ],
)
def test_wrong_values(http: httpx.Client, change: dict[str, Any], param: str, code: str | None) -> None:
    """A field of the wrong type or out of bounds is named by its path."""
    error = refused(http.post(URL, json=GOOD | change))
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]
    assert len(error["message"]) <= 300


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"logit_bias": {"262208": 1}}, "logit_bias", "invalid_value"),
        ({"messages": [*HI, {"role": "tool", "content": "4", "tool_call_id": "a"}]}, "messages[1].tool_call_id", None),
        ({"messages": [*HI, {"role": "assistant", "tool_calls": [CALL]}]}, "messages[1].tool_calls", None),
        ({"continue_final_message": True}, "messages", None),
    ],
)
def test_values_that_do_not_fit(http: httpx.Client, change: dict[str, Any], param: str, code: str | None) -> None:
    """What only model or conversation can tell to be wrong is blamed on its field as well."""
    error = refused(http.post(URL, json=GOOD | change))
    assert (error["param"], error["code"]) == (param, code)


def test_an_infinite_number(http: httpx.Client) -> None:
    """A number that is too large for a float is no temperature."""
    body = json.dumps(GOOD)[:-1] + ', "temperature": 1e999}'
    assert refused(http.post(URL, content=body))["param"] == "temperature"


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_missing_fields(http: httpx.Client, missing: str) -> None:
    """What must be there and is not is named."""
    error = refused(http.post(URL, json={key: value for key, value in GOOD.items() if key != missing}))
    assert (error["param"], error["code"]) == (missing, "missing_required_parameter")


UNSUPPORTED: dict[str, Any] = {
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "web_search_options": {},
    "moderation": {"model": "m"},
    "best_of": 2,
    "echo": True,
    "chat_template": "{{ x }}",
    "chat_template_kwargs": {"enable_thinking": True},
    "guided_whitespace_pattern": " ?",
    "use_beam_search": True,
    "length_penalty": 0.5,
    "stop_token_ids": [1],
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "bad_words": ["x"],
    "allowed_token_ids": [1],
    "prompt_logprobs": 1,
}


def test_every_refused_parameter_is_refused_by_name(http: httpx.Client) -> None:
    """A field whose meaning cannot be honoured is never silently ignored."""
    assert UNSUPPORTED.keys() == {parameter.name for parameter in CHAT if parameter.handling == "refused"}
    for name, value in UNSUPPORTED.items():
        error = refused(http.post(URL, json=GOOD | {name: value}))
        assert (error["param"], error["code"]) == (name, "unsupported_parameter")
        assert f"'{name}'" in error["message"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "name": "f", "content": "4"}, "messages[1].role"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "messages[1].function_call"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[1].audio"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[1].content[0].type"),
    ],
)
def test_refused_kinds_of_messages(http: httpx.Client, message: dict[str, Any], param: str) -> None:
    """Other media and OpenAI's older calls in the history are refused by name as well."""
    error = refused(http.post(URL, json=GOOD | {"messages": [*HI, message]}))
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")


def test_an_unknown_model(client: OpenAI) -> None:
    """A name that is not served is a 404 with OpenAI's code, and is not echoed at length."""
    with pytest.raises(NotFoundError) as caught:
        client.chat.completions.create(model="gpt-" + "9" * 100_000, messages=HI)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_over_the_context(stage: Stage, client: OpenAI, stream: bool) -> None:
    """Too long a prompt is a 400 with both numbers, also for a stream, and no worker hears of it."""
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 9000}], stream=stream
        )
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert "maximum context length is 8192 tokens" in str(caught.value)
    assert "resulted in" in str(caught.value)
    assert stage.worker.submits == []


def test_a_reply_over_the_context(stage: Stage, client: OpenAI) -> None:
    """A prompt that fits and a reply that does not are refused together, with all the numbers."""
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=HI, max_tokens=8190)  # type: ignore[arg-type]
    assert caught.value.code == "context_length_exceeded"
    assert "8192" in str(caught.value)
    assert "8190 in the completion" in str(caught.value)


def test_a_prompt_far_over_the_context(stage: Stage, http: httpx.Client) -> None:
    """A text so long that no counting is needed is refused too, while others are answered."""
    with stage.settings(server={"max_body": 64 << 20}):
        error = refused(http.post(URL, json=GOOD | {"messages": [{"role": "user", "content": "word " * 4_000_000}]}))
    assert error["code"] == "context_length_exceeded"


def image(url: str, role: str = "user") -> dict[str, Any]:
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return GOOD | {"messages": [{"role": role, "content": content}]}


PNG = saved(noise(), "PNG")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/a.png",
        "/etc/passwd",
        "data:image/png;base64,????",
        "data:image/png;base64,",
        data_url(PNG[: len(PNG) // 2]),
        data_url(b"GIF89a"),
        data_url(b"%PDF-1.4"),
        data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        data_url(bomb(8_000, 8_000)),
        "http://127.0.0.1:1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a.png",
        "http://localhost/a.png",
        "http://2130706433/a.png",
    ],
)
def test_bad_images(stage: Stage, http: httpx.Client, url: str) -> None:
    """An image that cannot or may not be read is a 400 that names its field; the next request is served."""
    error = refused(http.post(URL, json=image(url)))
    assert error["param"] == "messages[0].content[1].image_url.url"
    assert len(error["message"]) <= 1000
    assert stage.worker.submits == []
    assert http.post(URL, json=image(data_url(PNG))).status_code == 200


def test_one_bad_image_among_good_ones(stage: Stage, http: httpx.Client) -> None:
    """The bad one is named, and the good ones leave no descriptor behind."""
    parts = [{"type": "image_url", "image_url": {"url": data_url(PNG)}} for _ in range(4)]
    parts.insert(2, {"type": "image_url", "image_url": {"url": data_url(b"nothing")}})
    error = refused(http.post(URL, json=GOOD | {"messages": [{"role": "user", "content": parts}]}))
    assert error["param"] == "messages[0].content[2].image_url.url"


def test_images_of_others_than_the_user(http: httpx.Client) -> None:
    """Only the user shows images."""
    for role in ("system", "assistant"):
        error = refused(http.post(URL, json=image(data_url(PNG), role)))
        assert error["param"] == "messages[0].content[1].image_url.url"


def test_too_many_images(stage: Stage, http: httpx.Client) -> None:
    """The limit on images is told."""
    with stage.settings(media={"max_images": 0}):
        assert "0 images" in refused(http.post(URL, json=image(data_url(PNG))))["message"]


def test_an_announced_body_over_the_limit(http: httpx.Client) -> None:
    """A body that announces itself as too large is refused before it is read."""
    assert "1048576" in refused(http.post(URL, content=b" " * (2 << 20)), 413)["message"]


def test_an_unannounced_body_over_the_limit(http: httpx.Client) -> None:
    """A body that turns out too large is refused while it is read."""
    assert refused(http.post(URL, content=(b" " * 65536 for _ in range(32))), 413)["code"] == "body_too_large"
