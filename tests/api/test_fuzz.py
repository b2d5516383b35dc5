"""Every endpoint that takes a body, with bodies that nobody means well: no 500, no hang, every error in its shape."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.generation import TokenLogprobs
from gemmad.protocol.messages import Submit
from tests.api.stage import MODEL, Script, Stage

HI = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
USER = [{"role": "user", "content": "Hi"}]
AT = {"type": "object", "properties": {"at": {"type": "string"}}}
LOOK = {"name": "look", "description": "Looks.", "parameters": AT}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": MODEL,
        "messages": HI,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "seed": 1,
        "max_tokens": 4,
        "stop": ["x"],
        "n": 2,
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"5": 1},
        "frequency_penalty": 0.1,
        "tools": [{"type": "function", "function": LOOK}],
        "tool_choice": "none",
    },
    "/v1/completions": {"model": MODEL, "prompt": ["Hi", "you"], "max_tokens": 3, "logprobs": 1, "n": 1},
    "/v1/responses": {
        "model": MODEL,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "max_output_tokens": 16,
        "tools": [{"type": "function", **LOOK}],
        "tool_choice": "none",
        "store": False,
    },
    "/v1/responses/input_tokens": {"model": MODEL, "input": "Hi", "instructions": "Be kind."},
    "/v1/decisions": {
        "model": MODEL,
        "input": [{"role": "user", "content": [{"type": "input_json", "data": {"a": [1]}}]}],
        "questions": [
            {"type": "predicate", "instructions": "x"},
            {"type": "choice", "instructions": "x", "choices": [{"value": "a"}, {"value": True}]},
            {"type": "score", "instructions": "x", "levels": [{"label": "a"}, {"label": "b"}]},
        ],
    },
    "/tokenize": {"model": MODEL, "messages": HI, "return_token_strs": True},
    "/detokenize": {"model": MODEL, "tokens": [1, 2, 3]},
    "/v1/messages": {
        "model": MODEL,
        "max_tokens": 4,
        "system": [{"type": "text", "text": "Be kind."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "tools": [{"name": "look", "input_schema": AT}],
        "tool_choice": {"type": "none"},
    },
    "/v1/messages/count_tokens": {"model": MODEL, "messages": USER},
    "/api/chat": {
        "model": MODEL,
        "messages": USER,
        "options": {"seed": 1},
        "stream": False,
    },
    "/api/generate": {"model": MODEL, "prompt": "Hi", "options": {"stop": ["x"]}, "stream": False},
    "/api/show": {"model": MODEL},
}
ENDPOINTS = tuple(BODIES)
PATIENCE_SECONDS = 10.0

hostile_text = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", "\0", "<end_of_turn>", "\ufffd", "\u202e", "x" * 5000, "data:image/png;base64,AAAA", "../../etc", "NaN", "-1"]
)
numbers = st.sampled_from([0, -1, 1, 2**31, 2**63, -(2**70), 10**300, 0.5, -0.0, 1e308, 5e-324]) | st.integers(-3, 40)
values = st.recursive(
    st.none() | st.booleans() | numbers | hostile_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_text, inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
def talkative(stage: Stage) -> Stage:
    """A worker that gives every request what it asks for."""

    def script(submit: Submit) -> Script:
        ids = (*stage.tokens("Yes."), stage.text.stop_token_ids[-1])
        forced = [token for token, bias in submit.sampling.logit_bias if bias > 1000]
        ids = (forced[0], *ids) if forced else ids
        top = tuple(range(100, 100 + (submit.sampling.logprobs or 0)))
        told = TokenLogprobs(-1.0, top, tuple(-2.0 - index for index in range(len(top))))
        return Script(token_ids=ids, logprobs=(told,) * len(ids), at_once=4)

    stage.play(script)
    return stage


def check(path: str, response: httpx.Response) -> None:
    """It is an answer, or a refusal in the dialect's own shape."""
    assert response.status_code in (200, 400, 404, 413), (response.status_code, response.text[:500])
    if response.status_code == httpx.codes.OK:
        return
    assert response.headers["content-type"].startswith("application/json")
    assert len(response.content) < 10_000
    body = response.json()
    if path.startswith("/api"):
        assert isinstance(body["error"], str)
        return
    error = body["error"]
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    if not path.startswith("/v1/messages"):
        assert error.keys() == {"message", "type", "param", "code"}
        assert isinstance(error["param"], str), error


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all that is inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def changed(body: dict[str, Any], path: tuple[Any, ...], change: Any) -> dict[str, Any]:
    """The body with something else in one place; `...` takes it away."""
    made = deepcopy(body)
    holder: Any = made
    for key in path[:-1]:
        holder = holder[key]
    if change is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = change
    return made


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_bodies_are_good(talkative: Stage, http: httpx.Client, path: str) -> None:
    """What is spoilt below is served as it stands."""
    assert talkative.is_idle()
    response = http.post(path, json=BODIES[path])
    assert response.status_code == httpx.codes.OK, response.text


@pytest.mark.parametrize("path", ENDPOINTS)
def test_one_place_is_spoilt(talkative: Stage, http: httpx.Client, path: str) -> None:
    """Anything anywhere in a good body is an answer or a refusal, and in time."""
    assert talkative.is_idle()
    everywhere = list(places(BODIES[path]))

    @settings(max_examples=40)
    @given(st.sampled_from(everywhere), values | st.just(...))
    def spoil(place: tuple[Any, ...], value: Any) -> None:
        body = json.dumps(changed(BODIES[path], place, value))
        began = time.monotonic()
        check(path, http.post(path, content=body.encode()))
        assert time.monotonic() - began < PATIENCE_SECONDS

    spoil()


@pytest.mark.parametrize("path", ENDPOINTS)
def test_fields_that_nobody_knows(talkative: Stage, http: httpx.Client, path: str) -> None:
    """New SDKs send new fields: they change nothing."""
    assert talkative.is_idle()

    @settings(max_examples=10)
    @given(st.dictionaries(hostile_text.map(lambda name: f"x-{name}"), values, max_size=3))
    def add(fields: dict[str, Any]) -> None:
        assert http.post(path, json={**BODIES[path], **fields}).status_code == httpx.codes.OK

    add()


NO_JSON = {
    "nothing": b"",
    "cut": b'{"model": "',
    "no UTF-8": b'{"model": "\xff\xfe"}',
    "half a surrogate": b'{"model": "\\ud800"}',
    "NaN": b'{"model": "m", "temperature": NaN}',
    "Infinity": b'{"model": "m", "temperature": -Infinity}',
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "digits": b'{"seed": ' + b"9" * 100_000 + b"}",
    "commas": b'{"messages": [' + b"[]," * 300_000 + b"[]]}",
    "an array": b"[]",
    "a string": b'"x"',
    "two": b"{}{}",
    "a comment": b"{} // x",
    "a zero byte": b"\0{}",
    "a byte order mark": b"\xef\xbb\xbf[]",
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("path", ENDPOINTS)
def test_no_json_object(stage: Stage, http: httpx.Client, path: str, body: bytes) -> None:
    """What cannot be read is a 400 that tells no more than where."""
    response = http.post(path, content=body)
    assert response.status_code == httpx.codes.BAD_REQUEST, response.text[:500]
    assert len(response.content) < 2000
    assert "error" in response.json()
    assert stage.worker.submits == []


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_body_that_is_too_large(http: httpx.Client, path: str) -> None:
    """It is refused before it is read to its end."""
    response = http.post(path, content=b'{"x": "' + b"x" * (2 << 20) + b'"}')
    assert response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
    assert "error" in response.json()


@pytest.mark.parametrize("path", ENDPOINTS)
def test_duplicate_keys(talkative: Stage, http: httpx.Client, path: str) -> None:
    """Of a key that stands twice the last one counts, on every endpoint."""
    assert talkative.is_idle()
    text = json.dumps(BODIES[path])
    assert http.post(path, content=b'{"model": "nobody", ' + text[1:].encode()).status_code == httpx.codes.OK
    last = http.post(path, content=text[:-1].encode() + b', "model": "nobody"}')
    assert last.status_code == httpx.codes.NOT_FOUND


CHAT = "/v1/chat/completions"
RECURSIVE = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}}}
ENDLESS = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
WIDE = {"type": "object", "properties": {f"p{index}": {"type": "string", "maxLength": 10**9} for index in range(2000)}}
DEEP: dict[str, Any] = {"type": "string"}
for _ in range(150):
    DEEP = {"type": "array", "items": DEEP, "maxItems": 1000}


def held(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}}


HOSTILE_WISHES: dict[str, tuple[dict[str, Any], str | None]] = {
    "10 000 stop strings": ({"stop": [str(index) for index in range(10_000)]}, "stop"),
    "a long stop string": ({"stop": "x" * 100_000}, "stop"),
    "many messages": ({"messages": [{"role": "user", "content": "x"}] * 20_000}, "messages"),
    "many parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 9000}]},
        "messages[0].content",
    ),
    "many images": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}] * 200}]},
        None,
    ),
    "many tools": (
        {"tools": [{"type": "function", "function": {"name": f"f{index}"}} for index in range(5000)]},
        "tools",
    ),
    "many biases": ({"logit_bias": {str(index): 1 for index in range(50_000)}}, "logit_bias"),
    "a bias far out": ({"logit_bias": {"9" * 4000: 1}}, None),
    "a recursive schema": (held(RECURSIVE), None),
    "an endless schema": (held(ENDLESS), None),
    "a wide schema": (held(WIDE), None),
    "a deep schema": (held(DEEP), None),
    "a remote schema": (held({"$ref": "http://127.0.0.1:1/x"}), None),
    "a schema that is none": (held({"type": 7, "properties": []}), None),
    "an exploding regex": ({"guided_regex": "((a{1,1000}){1,1000}){1,1000}"}, None),
    "a backtracking regex": ({"guided_regex": "(a+)+$" * 200}, None),
    "a regex that is none": ({"guided_regex": "(["}, None),
    "an endless grammar": ({"guided_grammar": "root ::= root"}, None),
    "a grammar that is none": ({"guided_grammar": "root ::= ("}, None),
    "many options": ({"guided_choice": [str(index) for index in range(100_000)]}, None),
}


@pytest.mark.parametrize(("change", "param"), HOSTILE_WISHES.values(), ids=HOSTILE_WISHES)
def test_hostile_wishes(talkative: Stage, http: httpx.Client, change: dict[str, Any], param: str | None) -> None:
    """What would cost too much is refused, by name and soon; the next request is served."""
    assert talkative.is_idle()
    began = time.monotonic()
    response = http.post(CHAT, json={"model": MODEL, "messages": HI, "max_tokens": 4, **change})
    check(CHAT, response)
    assert time.monotonic() - began < PATIENCE_SECONDS
    if param is not None:
        assert response.json()["error"]["param"] == param
    assert http.post(CHAT, json={"model": MODEL, "messages": HI, "max_tokens": 4}).status_code == httpx.codes.OK
