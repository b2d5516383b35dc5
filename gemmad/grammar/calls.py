"""The grammar of a reply that may make calls, or must.

Where a call may come anywhere (`auto`, and no form for what is no call), text is free until a call's opening is
complete, tool's name and all: the rule of the opening is lazy, so it ends there and commits the reply to a call, as
`gemmad.text.calls` reads it. Where calls are required there is no room in the form: the reply begins with
`{"name": "`. Where the text has a form of its own the reply is one or the other from its first character.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool
from gemmad.grammar.source import HEADER, json_schema, literal
from gemmad.grammar.spec import Calls, JsonObject, JsonSchema
from gemmad.text.opening import (
    AFTER_ARGUMENTS,
    AFTER_LAST,
    BEFORE_ARGUMENTS,
    BEFORE_FIRST_NAME,
    BEFORE_NEXT_NAME,
    begin_call,
    express,
    express_text,
    quote_name,
)

_ANY_LINE = r"(?:(?s:.*)\n)?"
"""From the reply's beginning to where a line begins."""


def write_calls(spec: Calls, *, param: str, otherwise: str = "") -> str:
    """The whole source. `otherwise` has the rules for `spec.otherwise`, of which one is called `otherwise`; no other
    name in them begins with `calls`. `param` is what the client calls its tools.

    Raises InvalidRequestError for parameters that cannot be held, or are not those of an object.
    """
    chosen = [
        (tool, f"{param}[{number}]")
        for number, tool in enumerate(spec.tools)
        if spec.choice.allowed is None or tool.name in spec.choice.allowed
    ]
    if spec.choice.mode == "none" or not chosen:
        return _join([otherwise, "start: otherwise"] if otherwise else [r"start: /(?s:.*)/"])
    try:
        return _write(spec, chosen, otherwise)
    except RecursionError as error:
        raise InvalidRequestError("The parameters of a tool are nested too deeply.", param=param) from error


def _write(spec: Calls, chosen: Sequence[tuple[Tool, str]], otherwise: str) -> str:
    tools = [tool for tool, _ in chosen]
    schemas = [_settle_parameters(tool, path) for tool, path in chosen]
    arguments = [
        json_schema(schema, strict=tool.strict, param=path)
        for schema, (tool, path) in zip(schemas, chosen, strict=True)
    ]
    bodies = [f"calls_arguments_{number}: {body}" for number, body in enumerate(arguments)]
    parallel = spec.choice.parallel
    if spec.choice.mode == "required":
        return _join(["start: calls", *_write_exact(tools, parallel=parallel), *bodies])
    if spec.otherwise is None:
        return _join(["start: /(?s:.*)/ | calls", *_write_anywhere(tools, parallel=parallel), *bodies])
    if isinstance(spec.otherwise, JsonObject | JsonSchema):
        rules = list(_write_as_json(tools, schemas, parallel=parallel))
        return _join([otherwise, "start: otherwise | calls", *rules])
    return _join([otherwise, "start: otherwise | calls", *_write_exact(tools, parallel=parallel), *bodies])


def _join(rules: Sequence[str]) -> str:
    return HEADER + "\n".join(rules) + "\n"


def _write_exact(tools: Sequence[Tool], *, parallel: bool) -> Iterator[str]:
    """Calls as the model is asked for them, to the letter."""
    yield r'calls: calls_one ("\n" calls_one)*' if parallel else "calls: calls_one"
    yield _either("calls_one", len(tools))
    for number, tool in enumerate(tools):
        yield f'calls_{number}: {literal(begin_call(tool.name))} calls_arguments_{number} "}}"'


def _write_anywhere(tools: Sequence[Tool], *, parallel: bool) -> Iterator[str]:
    """Text, and then calls with all the room that their form has."""
    yield f"calls: calls_first {'calls_next* ' if parallel else ''}CALLS_END"
    yield _either("calls_first", len(tools))
    for number, tool in enumerate(tools):
        opening = _ANY_LINE + express(BEFORE_FIRST_NAME) + express_text(quote_name(tool.name))
        yield f"calls_first_{number}: calls_opening_{number} CALLS_BEFORE calls_arguments_{number}"
        yield f"calls_opening_{number}[lazy]: /{opening}/"
    if parallel:
        yield "calls_next: CALLS_NEXT calls_named"
        yield _either("calls_named", len(tools))
        for number, tool in enumerate(tools):
            yield f"calls_named_{number}: {literal(quote_name(tool.name))} CALLS_BEFORE calls_arguments_{number}"
        yield f"CALLS_NEXT: /{express(BEFORE_NEXT_NAME)}/"
    yield f"CALLS_BEFORE: /{express(BEFORE_ARGUMENTS)}/"
    yield f"CALLS_END: /{express((*AFTER_ARGUMENTS, *AFTER_LAST))}/"


def _write_as_json(tools: Sequence[Tool], schemas: Sequence[str], *, parallel: bool) -> Iterator[str]:
    """Calls as any JSON is written: which of them a text is, or another, need not be known before it says so."""
    yield r'calls: calls_one ("\n" calls_one)*' if parallel else "calls: calls_one"
    yield _either("calls_one", len(tools))
    for number, (tool, schema) in enumerate(zip(tools, schemas, strict=True)):
        whole = {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "parameters": _move_references(json.loads(schema))},
            "required": ["name", "parameters"],
            "additionalProperties": False,
        }
        body = json_schema(json.dumps(whole, ensure_ascii=False), strict=tool.strict, param="tools")
        yield f"calls_{number}: {body}"


def _either(name: str, count: int) -> str:
    stem = name.removesuffix("_one")
    return f"{name}: " + " | ".join(f"{stem}_{number}" for number in range(count))


def _settle_parameters(tool: Tool, param: str) -> str:
    """The schema of the arguments, which are an object whether it says so or not."""
    try:
        schema: Any = json.loads(tool.parameters)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The parameters of the tool are no JSON: {error}", param=param) from error
    if not isinstance(schema, dict):
        raise InvalidRequestError("The parameters of the tool are no JSON object.", param=param)
    kind = schema.get("type")
    if kind == "object":
        return tool.parameters
    if kind is None or (isinstance(kind, list) and "object" in kind):
        return json.dumps({**schema, "type": "object"}, ensure_ascii=False)
    raise InvalidRequestError("The parameters of the tool are not those of an object.", param=param)


_VALUES = frozenset({"const", "enum", "default", "examples"})
"""Keywords under which no schema stands."""
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords under which schemas have names, and a name is no keyword."""


def _move_references(schema: Any) -> Any:
    """The schema as it stands among a call's properties: what refers to its root refers to there."""
    if isinstance(schema, list):
        return [_move_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _move_keyword(key, value) for key, value in schema.items()}


def _move_keyword(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key in _NAMED and isinstance(value, dict):
        return {name: _move_references(schema) for name, schema in value.items()}
    if key == "$ref" and isinstance(value, str) and (value == "#" or value.startswith("#/")):
        return "#/properties/parameters" + value[1:]
    return _move_references(value)
