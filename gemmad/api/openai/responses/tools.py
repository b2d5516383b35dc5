"""Tools of a request and what may be chosen of them. Pure.

Functions are what the model can call. A tool of another type is run by OpenAI's servers or needs a model that was
taught it: where the model is free to leave it out, it is left out, and the response's own `tools` say so (the Codex CLI
sends a `web_search` with everything); where it must be called, it is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import Field

from gemmad.api.fields import json_text, refusal
from gemmad.api.openai.responses.schema import Name, parse
from gemmad.api.openai.schema import Fields
from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool, ToolChoice

NO_ARGUMENTS = {"type": "object", "properties": {}}


class FunctionIn(Fields):
    """A function."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamespaceIn(Fields):
    """Functions with a name in common."""

    type: Literal["namespace"]
    name: Name
    description: str | None = None
    tools: list[dict[str, Any]]


class NamedIn(Fields):
    """A function that is chosen."""

    type: Literal["function"]
    name: Annotated[str, Field(min_length=1)]
    namespace: str | None = None


class AllowedIn(Fields):
    """Several of them."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


class Called(Struct, frozen=True):
    """What the client calls a function."""

    name: str
    namespace: str | None = None


class Toolbox(Struct, frozen=True):
    """What the model may call, and how the response tells of it."""

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = ToolChoice()
    told: tuple[dict[str, Any], ...] = ()
    told_choice: str | dict[str, Any] = "auto"
    names: Mapping[str, Called] = {}
    """By the name that the model knows."""


def joined(namespace: str | None, name: str) -> str:
    """The name that the model knows a function by."""
    return name if namespace is None else f"{namespace.rstrip('_')}__{name}"


def toolbox(
    given: Sequence[Mapping[str, Any]] | None, choice: str | Mapping[str, Any] | None, *, parallel: bool | None
) -> Toolbox:
    """Raises InvalidRequestError that names the tool or the choice at fault."""
    tools: dict[str, Tool] = {}
    names: dict[str, Called] = {}
    told: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for index, tool in enumerate(given or ()):
        path = f"tools[{index}]"
        kind = _kind(tool, path)
        if kind not in ("function", "namespace"):
            left_out[f"{path}.type"] = kind
            continue
        for where, called, function in _functions(tool, path):
            name = joined(called.namespace, called.name)
            if name in tools:
                raise InvalidRequestError(f"There are two tools named '{name}'.", param=f"{where}.name")
            tools[name], names[name] = function, called
        told.append(_told(tool, path))
    mode, allowed = _choice(choice, tools)
    if mode == "required" and not (tools if allowed is None else allowed) and left_out:
        where, kind = next(iter(left_out.items()))
        raise _unsupported(where, kind)
    settled = ToolChoice(mode, allowed, parallel is not False)
    told_choice = dict(choice) if isinstance(choice, Mapping) else choice or "auto"
    return Toolbox(tuple(tools.values()), settled, tuple(told), told_choice, names)


def _functions(tool: Mapping[str, Any], path: str) -> Iterator[tuple[str, Called, Tool]]:
    if tool["type"] == "function":
        function = parse(FunctionIn, tool, path=path)
        yield path, Called(function.name), _tool(function, None, path)
        return
    namespace = parse(NamespaceIn, tool, path=path)
    for index, inner in enumerate(namespace.tools):
        where = f"{path}.tools[{index}]"
        if _kind(inner, where) == "function":
            function = parse(FunctionIn, inner, path=where)
            yield where, Called(function.name, namespace.name), _tool(function, namespace.name, where)


def _tool(function: FunctionIn, namespace: str | None, path: str) -> Tool:
    parameters = NO_ARGUMENTS if function.parameters is None else function.parameters
    return Tool(
        joined(namespace, function.name),
        function.description or "",
        json_text(parameters, param=f"{path}.parameters"),
        bool(function.strict),
    )


def _told(tool: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The definition as the response repeats it, with nothing in it that was not looked at."""
    if tool["type"] == "function":
        function = parse(FunctionIn, tool, path=path)
        return {
            "type": "function",
            "name": function.name,
            "description": function.description,
            "parameters": function.parameters,
            "strict": function.strict,
        }
    namespace = parse(NamespaceIn, tool, path=path)
    inner = [_told(each, path) for each in namespace.tools if each["type"] == "function"]
    return {
        "type": "namespace",
        "name": namespace.name,
        "description": namespace.description or "",
        "tools": inner,
    }


def _choice(
    choice: str | Mapping[str, Any] | None, tools: Mapping[str, Tool]
) -> tuple[Literal["none", "auto", "required"], tuple[str, ...] | None]:
    match choice:
        case None | "auto":
            return "auto", None
        case "none":
            return "none", None
        case "required":
            return "required", None
        case str():
            raise InvalidRequestError(
                "Invalid value for 'tool_choice': expected 'none', 'auto', 'required' or an object.",
                param="tool_choice",
                code="invalid_value",
            )
    kind = _kind(choice, "tool_choice")
    if kind == "function":
        return "required", (_known(choice, "tool_choice", tools),)
    if kind != "allowed_tools":
        raise _unsupported("tool_choice.type", kind)
    allowed = parse(AllowedIn, choice, path="tool_choice")
    functions = tuple(
        _known(each, path, tools)
        for index, each in enumerate(allowed.tools)
        if _kind(each, path := f"tool_choice.tools[{index}]") == "function"
    )
    if functions:
        return allowed.mode, functions
    if allowed.mode == "required":
        raise _unsupported("tool_choice.tools", "a call of none of the functions")
    return "none", None


def _known(choice: Mapping[str, Any], path: str, tools: Mapping[str, Tool]) -> str:
    named = parse(NamedIn, choice, path=path)
    name = joined(named.namespace, named.name)
    if name not in tools:
        raise InvalidRequestError(
            f"Tool choice '{name[:128]}' not found in 'tools' parameter.", param=f"{path}.name", code="invalid_value"
        )
    return name


def _kind(value: Mapping[str, Any], path: str) -> str:
    kind = value.get("type")
    if not isinstance(kind, str):
        raise InvalidRequestError(
            f"Missing required parameter: '{path}.type'.", param=f"{path}.type", code="missing_required_parameter"
        )
    return kind


def _unsupported(param: str, kind: str) -> InvalidRequestError:
    return refusal(param, f"'{kind[:64]}' is not supported; the model can call functions")
