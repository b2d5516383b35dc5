"""The schema as JSON Schema, for editors that complete and check TOML by one."""

from __future__ import annotations

from typing import Any

from gemmad.config.keys import Key, keys, sections

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXTS = {
    "size": r"^\s*\d+(\.\d+)?\s*([Bb]|[KkMmGgTt][Ii]?[Bb]?)?\s*$",
    "duration": r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?\s*([Mm]?[Ss]|[Mm]|[Hh]|[Dd])\s*)+)\s*$",
}
"""What may stand for a number."""
_TIME_OF_DAY = r"^\s*([01]?\d|2[0-3]):[0-5]\d\s*$"
_TAKES_EFFECT = {
    "live": "Takes effect at once.",
    "recycle": "Takes effect with new workers, one of which tries it first.",
    "restart": "Takes effect when the daemon is started anew.",
}


def json_schema() -> dict[str, Any]:
    """Whatever it accepts is TOML that `gemmad config check` accepts too, but for what depends on the machine."""
    return {
        "$schema": DRAFT,
        "title": "gemmad.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            section: {
                "type": "object",
                "description": kind.__doc__,
                "additionalProperties": False,
                "properties": {key.name: _property(key) for key in keys() if key.section == section},
            }
            for section, kind in sections().items()
        },
    }


def _property(key: Key) -> dict[str, Any]:
    told = sections()[key.section].model_json_schema(mode="validation")["properties"][key.name]
    kinds = [_widened(key, kind) for kind in told.get("anyOf", [told]) if kind.get("type") != "null"]
    found: dict[str, Any] = {"description": f"{key.doc} {_TAKES_EFFECT[key.when]}"}
    if key.default is not None:
        found["default"] = list(key.default) if isinstance(key.default, tuple) else key.default
    texts = _TEXTS.get(key.type_words)
    if texts is not None:
        kinds.append({"type": "string", "pattern": texts})
    return found | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


_ABOUT = frozenset({"title", "description", "default", "when", "format"})
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""Pydantic leaves the bounds of a value that is converted first under their own names."""


def _widened(key: Key, kind: dict[str, Any]) -> dict[str, Any]:
    found = {_BOUNDS.get(name, name): value for name, value in kind.items() if name not in _ABOUT}
    if key.type_words == "list of HH:MM":
        found["items"] = {"type": "string", "pattern": _TIME_OF_DAY}
    if key.dotted == "workers.gpus" and found.get("type") == "array":
        found["items"] = {"type": ["string", "integer"]}
    return found
