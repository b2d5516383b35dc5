"""Replies that are held to a form: what is asked for, under whatever name, and what the worker is told of it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from pydantic import BaseModel

from gemmad.grammar.spec import Choice, Ebnf, JsonObject, JsonSchema, Regex, Spec
from tests.api.stage import MODEL, Stage
from tests.api.test_bad_input import GOOD, URL, refused
from tests.api.test_chat import HI
from tests.clients import run_async

SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}
WRITTEN = json.dumps(SCHEMA)
STRICT = {"name": "x", "strict": True, "schema": SCHEMA}


@pytest.mark.parametrize(
    ("fields", "spec", "param"),
    [
        ({"response_format": {"type": "json_object"}}, JsonObject(), "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            JsonSchema(WRITTEN),
            "response_format.json_schema.schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
                }
            },
            JsonSchema(WRITTEN, strict=True),
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, JsonObject(), "response_format"),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            JsonSchema(WRITTEN),
            "response_format.schema",
        ),
        ({"guided_json": SCHEMA}, JsonSchema(WRITTEN), "guided_json"),
        ({"guided_json": json.dumps(SCHEMA)}, JsonSchema(json.dumps(SCHEMA)), "guided_json"),
        ({"json_schema": SCHEMA}, JsonSchema(WRITTEN), "json_schema"),
        ({"guided_regex": "a+"}, Regex("a+"), "guided_regex"),
        ({"regex": "a+"}, Regex("a+"), "regex"),
        ({"guided_choice": ["yes", "no"]}, Choice(("yes", "no")), "guided_choice"),
        ({"guided_grammar": 'root ::= "a"'}, Ebnf('root ::= "a"'), "guided_grammar"),
        ({"ebnf": 'root ::= "a"'}, Ebnf('root ::= "a"'), "ebnf"),
        ({"grammar": 'root ::= "a"'}, Ebnf('root ::= "a"'), "grammar"),
        ({"structured_outputs": {"json": SCHEMA}}, JsonSchema(WRITTEN), "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a+"}}, Regex("a+"), "structured_outputs.regex"),
        ({"structured_outputs": {"choice": ["a"]}}, Choice(("a",)), "structured_outputs.choice"),
        ({"structured_outputs": {"grammar": "x"}}, Ebnf("x"), "structured_outputs.grammar"),
        ({"structured_outputs": {"json_object": True}}, JsonObject(), "structured_outputs.json_object"),
    ],
)
@pytest.mark.parametrize("path", [URL, "/v1/completions"])
def test_every_name(stage: Stage, http: httpx.Client, path: str, fields: Any, spec: Spec, param: str) -> None:
    """OpenAI's, vLLM's, SGLang's and llama.cpp's names mean the same; a schema's keys keep the client's order."""
    assert http.post(path, json=GOOD | {"prompt": "a"} | fields).status_code == 200
    assert stage.grammars.asked == [(spec, param)]
    assert stage.worker.submits[0].sampling.grammar == "grammar 1"


@pytest.mark.parametrize(
    "fields",
    [{}, {"response_format": {"type": "text"}}, {"response_format": None}, {"structured_outputs": {}}],
)
def test_anything_at_all(stage: Stage, http: httpx.Client, fields: Any) -> None:
    """A reply that may be any text is held by nothing."""
    assert http.post(URL, json=GOOD | fields).status_code == 200
    assert stage.grammars.asked == []
    assert stage.worker.submits[0].sampling.grammar is None


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_compiled(stage: Stage, client: OpenAI, stream: bool) -> None:
    """It is a 400 before any header of a stream, which blames the field, and no worker hears of it."""
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=HI, extra_body={"structured_outputs": {"regex": "("}}, stream=stream
        )
    assert (caught.value.param, caught.value.code) == ("structured_outputs.regex", "invalid_schema")
    assert stage.worker.submits == []


@pytest.mark.parametrize("name", ["structural_tag", "whitespace_pattern"])
def test_fields_of_vllm_that_are_not_served(http: httpx.Client, name: str) -> None:
    """They are refused by name, not ignored."""
    error = refused(http.post(URL, json=GOOD | {"structured_outputs": {"choice": ["a"], name: "x"}}))
    assert (error["param"], error["code"]) == (f"structured_outputs.{name}", "unsupported_parameter")


class Sky(BaseModel):
    """What the SDK makes a strict schema of."""

    colour: str
    clouds: list[int]


def test_parse(stage: Stage, client: OpenAI) -> None:
    """The SDK's `.parse()` sends a strict schema and gets its own type back, whole and streamed, asyncio's too."""
    stage.say('{"colour": "blue", "clouds": [1, 2]}', pause_seconds=0.001)
    sky = Sky(colour="blue", clouds=[1, 2])
    whole = client.chat.completions.parse(model=MODEL, messages=HI, response_format=Sky)
    assert whole.choices[0].message.parsed == sky
    with client.chat.completions.stream(model=MODEL, messages=HI, response_format=Sky) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == sky

    async def talk() -> Sky | None:
        async with stage.async_client() as waiting:
            reply = await waiting.chat.completions.parse(model=MODEL, messages=HI, response_format=Sky)
            return reply.choices[0].message.parsed

    assert run_async(talk()) == sky
    spec, _ = stage.grammars.asked[0]
    assert isinstance(spec, JsonSchema)
    assert spec.strict
    assert json.loads(spec.schema)["required"] == ["colour", "clouds"]
