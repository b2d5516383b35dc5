"""What the model may call, and by which names."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import Response

from gemmad.api.openai.responses.tools import Called, joined, toolbox
from gemmad.generation import ToolChoice

LOOK: dict[str, Any] = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "title": "Look"},
    "strict": True,
}
READ: dict[str, Any] = {"type": "function", "name": "read", "description": "Reads."}
FILES: dict[str, Any] = {"type": "namespace", "name": "mcp__files__", "description": "Files.", "tools": [READ]}
SEARCH: dict[str, Any] = {"type": "web_search", "external_web_access": True}
PATCH: dict[str, Any] = {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark"}}


def test_functions() -> None:
    """A function comes with its schema as text, the keys in the client's order; without one it takes no arguments."""
    box = toolbox([LOOK, READ], None, parallel=None)
    assert [(tool.name, tool.description, tool.strict) for tool in box.tools] == [
        ("look", "", True),
        ("read", "Reads.", False),
    ]
    assert list(json.loads(box.tools[0].parameters).items()) == [("type", "object"), ("title", "Look")]
    assert json.loads(box.tools[1].parameters) == {"type": "object", "properties": {}}
    assert box.choice == ToolChoice("auto", None, True)
    assert box.told_choice == "auto"


def test_namespaces() -> None:
    """The model knows a function of a namespace by both names in one; the client is told the two."""
    box = toolbox([LOOK, FILES], {"type": "function", "name": "read", "namespace": "mcp__files__"}, parallel=False)
    assert [tool.name for tool in box.tools] == ["look", "mcp__files__read"]
    assert box.names["mcp__files__read"] == Called("read", "mcp__files__")
    assert box.choice == ToolChoice("required", ("mcp__files__read",), False)
    assert joined("files", "read") == "files__read"


def test_what_the_model_cannot_call_is_left_out() -> None:
    """Tools of other types are left out while the model need not call them, and the response does not have them."""
    for choice in ("auto", "none", "required", None):
        box = toolbox([SEARCH, LOOK, PATCH], choice, parallel=None)
        assert [tool.name for tool in box.tools] == ["look"]
        assert [tool["type"] for tool in box.told] == ["function"]
    assert toolbox([SEARCH], "auto", parallel=None).tools == ()


def test_allowed_tools() -> None:
    """The model may call those that are allowed; if none of them is a function, none."""
    allowed: dict[str, Any] = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "look"}],
    }
    box = toolbox([LOOK, READ, SEARCH], allowed, parallel=None)
    assert box.choice == ToolChoice("required", ("look",), True)
    assert box.told_choice == allowed
    nothing: dict[str, Any] = {"type": "allowed_tools", "mode": "auto", "tools": [SEARCH]}
    assert toolbox([LOOK, SEARCH], nothing, parallel=None).choice.mode == "none"


def test_what_is_told_fits_the_types() -> None:
    """Tools and choice are repeated as the SDK's types have them."""
    box = toolbox([LOOK, FILES, SEARCH], {"type": "function", "name": "look"}, parallel=None)
    told = Response.model_validate(
        {
            "id": "resp_1",
            "created_at": 1,
            "model": "m",
            "object": "response",
            "output": [],
            "parallel_tool_calls": True,
            "tools": box.told,
            "tool_choice": box.told_choice,
        }
    )
    assert [tool.type for tool in told.tools] == ["function", "namespace"]
