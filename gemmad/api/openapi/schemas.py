"""JSON schemas of what goes in and comes out, from the very types that the endpoints decode and encode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from gemmad.api.openai.parameters import Parameter
from gemmad.api.openapi.outgoing import Outgoing, Schema

_REF = "#/components/schemas/"
_CANDIDATES: tuple[Any, ...] = (
    *(False, True, 0, 1, "", "none", "auto", "text", "disabled", "default"),
    *([], {}, ["text"], {"type": "text"}, {"type": "none"}, {"type": "auto"}),
)
"""Values that may ask for nothing; which of them do is for each refused field to say."""


class Components:
    """Schemas that others refer to, by name. Names of one group never meet those of another."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}

    def request(self, model: type[BaseModel], fields: Iterable[Parameter], *, group: str) -> Schema:
        """A reference to the schema of a body. It tells of each field in `fields` what becomes of it."""
        schema = model.model_json_schema(ref_template=f"{_REF}{group}.{{model}}")
        for name, definition in schema.pop("$defs", {}).items():
            self.schemas[f"{group}.{name}"] = definition
        properties = schema.setdefault("properties", {})
        for parameter in fields:
            properties[parameter.name] = properties.get(parameter.name, {}) | _told(parameter)
        name = f"{group}.{model.__name__}"
        self.schemas[name] = schema
        return {"$ref": _REF + name}

    def answer(self, kind: Any, *, group: str) -> Schema:
        """The schema of what is encoded: of a struct a reference to it."""
        outgoing = Outgoing(lambda name: {"$ref": f"{_REF}{group}.{name}"})
        schema = outgoing.schema(kind)
        for name, definition in outgoing.definitions.items():
            self.schemas[f"{group}.{name}"] = definition
        return schema


def _told(parameter: Parameter) -> Schema:
    match parameter.handling:
        case "honoured":
            return {"description": parameter.note}
        case "ignored":
            return {"description": f"Ignored: {parameter.note}."}
        case "refused":
            accepted = [None, *(value for value in _CANDIDATES if parameter.neutral(value))]
            return {"description": f"Refused ({parameter.note}).", "enum": accepted}
