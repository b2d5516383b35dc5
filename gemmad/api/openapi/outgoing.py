"""JSON schemas of structs as they are encoded.

msgspec's own tell what it would decode, where a field with a default may be absent; here what is always there is
`required`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    msgspec.Raw: {},
}


class Outgoing:
    """Translates types. Structs become definitions, which `refer` names and `definitions` has."""

    def __init__(self, refer: Callable[[str], Schema]) -> None:
        self.definitions: dict[str, Schema] = {}
        self._refer = refer
        self._names: dict[type[Struct], str] = {}

    def schema(self, kind: Any) -> Schema:
        """The schema of a type. Raises TypeError for one that no answer has."""
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self._refer(self._define(kind))
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is Literal:
            return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
        if origin in (types.UnionType, typing.Union):
            members = [self.schema(each) for each in arguments if each is not UnsetType]
            return members[0] if len(members) == 1 else {"anyOf": members}
        if origin in (tuple, list):
            return (
                {"type": "array", "items": self.schema(arguments[0])} if arguments else {"type": "array", "maxItems": 0}
            )
        if origin is dict:
            return {"type": "object", "additionalProperties": self.schema(arguments[1])}
        raise TypeError(f"no schema for {kind}")

    def _define(self, kind: type[Struct]) -> str:
        if kind in self._names:
            return self._names[kind]
        name = kind.__name__
        if name in self.definitions:
            name = f"{kind.__module__.rpartition('.')[2]}.{name}"
        self._names[kind] = name
        self.definitions[name] = {}  # its place, should it refer to itself
        self.definitions[name] = self._object(kind)
        return name

    def _object(self, kind: type[Struct]) -> Schema:
        hints = typing.get_type_hints(kind)
        omits = kind.__struct_config__.omit_defaults
        properties: dict[str, Schema] = {}
        required: list[str] = []
        if (tag := kind.__struct_config__.tag) is not None:
            properties[str(kind.__struct_config__.tag_field)] = {"const": tag}
            required.append(str(kind.__struct_config__.tag_field))
        for field in msgspec.structs.fields(kind):
            properties[field.encode_name] = self.schema(hints[field.name])
            if field.required or not (omits or field.default is UNSET):
                required.append(field.encode_name)
        described = {"description": kind.__doc__} if kind.__doc__ else {}
        return {"type": "object", **described, "properties": properties, "required": required}
