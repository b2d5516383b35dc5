"""`GET /openapi.json`: OpenAPI 3.1, put together from the operations and from the one table of errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gemmad.api.errors import GONE, HTTP_CODES, TABLE
from gemmad.api.openapi.operation import Operation
from gemmad.api.openapi.operations import OPERATIONS
from gemmad.api.openapi.outgoing import Schema
from gemmad.api.openapi.schemas import Components
from gemmad.api.services import Services

EVERY = frozenset({401, 421, 500})
"""Refusals that any operation may answer with; a key is asked for where there are keys."""
OF_BODIES = frozenset({400, 403, 404, 408, 413, 429, 503})
"""Those of operations that read a body."""

_STRING: Schema = {"type": "string"}
_HEADERS: dict[str, Schema] = {
    "x-request-id": {"description": "The client's own if it sent a sane one; the log has it too.", "schema": _STRING},
    "Retry-After": {
        "description": "Whole seconds, computed from the queue and the measured speed.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 120},
    },
    "retry-after-ms": {"description": "The same in milliseconds.", "schema": {"type": "integer", "minimum": 1}},
    "x-should-retry": {"description": "Whether to try again, for the official SDKs.", "schema": _STRING},
    "WWW-Authenticate": {"description": "Bearer", "schema": _STRING},
}
_EXTRA_HEADERS = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "retry-after-ms", "x-should-retry"),
    503: ("Retry-After", "retry-after-ms", "x-should-retry"),
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send it."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's do."},
}


class OpenApi:
    """The route. The document is made when somebody first asks, outside the event loop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._made: dict[bool, bytes] = {}

    async def document(self, request: Request) -> Response:
        """The description of this very server."""
        del request
        guarded = bool(self._services.keyring())
        if guarded not in self._made:
            made = await asyncio.to_thread(document, version=self._services.version, guarded=guarded)
            self._made[guarded] = msgspec.json.encode(made)
        return Response(self._made[guarded], media_type="application/json")


def document(*, version: str, guarded: bool, operations: Iterable[Operation] = OPERATIONS) -> dict[str, Any]:
    """OpenAPI's description of the operations. `guarded`: a key is needed."""
    components = Components()
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, components)
    keys: list[dict[str, list[str]]] = [{name: []} for name in _SECURITY]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gemmad",
            "version": version,
            "summary": "Gemma 3, text and images, behind the APIs that its clients know.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.schemas.items())),
            "headers": _HEADERS,
            "securitySchemes": _SECURITY,
        },
        "security": keys if guarded else [{}, *keys],
    }


def refusals(operation: Operation) -> tuple[int, ...]:
    """Statuses that this operation may refuse with."""
    every = EVERY - {401} if operation.open else EVERY
    of_bodies = OF_BODIES if operation.body is not None else frozenset()
    return tuple(sorted((every | of_bodies | operation.refuses) - operation.also))


def _operation(operation: Operation, components: Components) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(operation, components),
    }
    parameters = [*_path_parameters(operation.path), *_query_parameters(operation)]
    if parameters:
        told["parameters"] = parameters
    if operation.body is not None:
        schema = components.request(operation.body, operation.fields, group=operation.name)
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if operation.open:
        told["security"] = []
    return told


def _responses(operation: Operation, components: Components) -> dict[str, Any]:
    answer = {"headers": _headers(), "content": _content(operation, components)}
    responses: dict[str, Any] = {"200": {"description": "Done."} | answer}
    for status in operation.also:
        headers = _headers(status)
        headers.pop("x-should-retry", None)  # it is no failed request that could be sent again
        responses[str(status)] = {"description": f"{HTTPStatus(status).phrase}.", **answer, "headers": headers}
    schema = components.answer(operation.error, group=f"errors.{operation.error.__name__}")
    for status in refusals(operation):
        responses[str(status)] = {
            "description": _words(status),
            "headers": _headers(status),
            "content": {"application/json": {"schema": schema}},
        }
    return dict(sorted(responses.items()))


def _content(operation: Operation, components: Components) -> dict[str, Any]:
    if isinstance(operation.answer, str):
        return {operation.answer: {"schema": _STRING}}
    content: dict[str, Any] = {
        "application/json": {"schema": components.answer(operation.answer, group=f"{operation.name}.answer")}
    }
    if operation.stream is not None:
        events = [components.answer(event, group=f"{operation.name}.answer") for event in operation.stream.events]
        content[operation.stream.media_type] = {
            "schema": {
                "type": "string",
                "description": operation.stream.note,
                "contentMediaType": "application/json",
                "contentSchema": events[0] if len(events) == 1 else {"anyOf": events},
            }
        }
    return content


def _headers(status: int = 200) -> dict[str, Schema]:
    names = ("x-request-id", *_EXTRA_HEADERS.get(status, ()))
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _words(status: int) -> str:
    """The status' name and the codes that come with it."""
    codes = [kind.code for kind in TABLE.values() if kind.status == status and kind.code not in (None, GONE)]
    codes += [code for known, code in HTTP_CODES.items() if known == status]
    words = "; ".join(f"`{code}`" for code in codes)
    return f"{HTTPStatus(status).phrase}{f' ({words})' if words else ''}."


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": _STRING} for name in re.findall(r"{(\w+)}", path)]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": query.name, "in": "query", "schema": query.schema, "description": query.note}
        for query in operation.query
    ]
