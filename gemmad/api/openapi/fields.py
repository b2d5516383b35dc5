"""`docs/api-fields.md`: what becomes of every field of every request, from the tables that the endpoints go by."""

from __future__ import annotations

from collections.abc import Iterable

from gemmad.api.openai.parameters import Parameter
from gemmad.api.openapi.operation import Operation
from gemmad.api.openapi.operations import OPERATIONS

_INTRODUCTION = """\
# Fields of the API

<!-- Made from the tables in gemmad/api by `make docs`; a test holds the two equal. -->

What becomes of every field that clients send. [api.md](api.md) tells how the endpoints behave, and `GET /openapi.json`
tells the same to programs.

- **honoured**: it does what its API says.
- **ignored**: it may be sent, and changes nothing in the reply.
- **refused**: it would change the reply, and is not served. Null and the values that the notes name are accepted; any
  other is a 400 with `code: "unsupported_parameter"` and the field's name in `param`.

Fields that are in no table are accepted and ignored, since new SDKs send new fields.
"""


def fields_page(operations: Iterable[Operation] = OPERATIONS) -> str:
    """The page, in Markdown."""
    parts = [_INTRODUCTION]
    for operation in operations:
        if operation.fields:
            parts.append(f"## `{operation.method.upper()} {operation.path}`\n\n{operation.summary}.\n")
            parts.append(_table(operation.fields))
            for title, parameters in operation.parts:
                parts.append(f"### {title} of `{operation.path}`\n\n{_table(parameters)}")
    return "\n".join(parts)


def _table(parameters: Iterable[Parameter]) -> str:
    rows = [f"| `{one.name}` | {one.handling} | {_cell(one.note)} |" for one in parameters]
    return "\n".join(["| field | handling | notes |", "|---|---|---|", *rows, ""])


def _cell(note: str) -> str:
    return note.replace("|", "\\|")
