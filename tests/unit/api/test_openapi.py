"""`/openapi.json` and docs/api-fields.md against the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
from starlette.routing import Route

from gemmad.api.app import create_app
from gemmad.api.auth import ASSETS, CHAT, DASHBOARD, OPEN_PATHS
from gemmad.api.openai.responses.wire import Event
from gemmad.api.openapi.document import document
from gemmad.api.openapi.fields import fields_page
from gemmad.api.openapi.operation import Operation
from gemmad.api.openapi.operations import OPERATIONS
from gemmad.api.openapi.responses import RESPONSE_EVENTS
from gemmad.api.services import Services
from gemmad.metrics import Metrics, Reading

ROOT = Path(__file__).parents[3]
WITH_BODIES = [operation for operation in OPERATIONS if operation.body is not None]
WITH_FIELDS = [operation for operation in WITH_BODIES if operation.fields]


def name(operation: Operation) -> str:
    return operation.name


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(json.dumps(document(version="1.2.3", guarded=False))))


def nodes(value: Any) -> Iterator[Any]:
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from nodes(child)


def resolved(described: dict[str, Any], reference: str) -> Any:
    node: Any = described
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def test_every_route_is_described(described: dict[str, Any]) -> None:
    """Paths and methods are the app's, no more and no fewer; those that are for the dashboard's pages are left out."""
    unused: Any = None
    services = Services(
        version="1",
        served=lambda: None,
        dispatcher=unused,
        workers=tuple,
        metrics=Metrics(lambda: Reading(version="1")),
        server=unused,
        model=unused,
        sampling=unused,
        media=unused,
        max_context=lambda: None,
    )
    routes = cast("list[Route]", create_app(services).routes)
    served = {
        (method.lower(), re.sub(":[a-z]+}", "}", route.path))
        for route in routes
        if not route.path.startswith((CHAT, ASSETS, DASHBOARD))
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {(method, path) for path, methods in described["paths"].items() for method in methods} == served


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    """Nothing dangles, no schema is there that nobody refers to, and names are what OpenAPI allows."""
    references = {node["$ref"] for node in nodes(described) if isinstance(node, dict) and "$ref" in node}
    for reference in references:
        assert resolved(described, reference) is not None
    for schema in described["components"]["schemas"]:
        assert re.fullmatch(r"[a-zA-Z0-9._-]+", schema)
        assert f"#/components/schemas/{schema}" in references


def test_schemas_are_schemas(described: dict[str, Any]) -> None:
    """Each is one of JSON Schema's 2020-12 dialect, which OpenAPI 3.1 goes by."""
    assert described["openapi"] == "3.1.0"
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_names_of_operations_are_unique() -> None:
    """Generated clients name their functions by them."""
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_what_is_open_is_what_needs_no_key(described: dict[str, Any]) -> None:
    """The operations that say that they need no key are those that are let through without one."""
    assert {operation.path for operation in OPERATIONS if operation.open} == OPEN_PATHS
    assert {} in described["security"]
    assert {} not in document(version="1", guarded=True)["security"]


def test_all_events_of_responses_are_described() -> None:
    """Whatever a stream of `/v1/responses` may send has its schema."""

    def leaves(kind: type[Event]) -> set[type[Event]]:
        below = kind.__subclasses__()
        return set().union(*map(leaves, below)) if below else {kind}

    assert set(RESPONSE_EVENTS) == leaves(Event)


@pytest.mark.parametrize("operation", WITH_FIELDS, ids=name)
def test_tables_and_schemas_agree(operation: Operation) -> None:
    """What a table calls honoured is in the schema that is checked, and what is checked is in the table."""
    assert operation.body is not None
    checked = {field.alias or known for known, field in operation.body.model_fields.items()}
    honoured = {field.name for field in operation.fields if field.handling == "honoured"}
    listed = [field.name for field in operation.fields]
    assert honoured <= checked
    assert checked <= set(listed)
    assert len(set(listed)) == len(listed)


def test_refused_fields_tell_what_they_accept(described: dict[str, Any]) -> None:
    """Of a refused field the schema has the values that ask for nothing."""
    chat = described["components"]["schemas"]["create_chat_completion.ChatRequest"]["properties"]
    assert chat["best_of"]["enum"] == [None, 1]
    assert chat["modalities"]["enum"] == [None, [], ["text"]]
    assert "enum" not in chat["user"]


def test_the_page_of_fields_is_the_code() -> None:
    """`make docs` has been run."""
    assert (ROOT / "docs" / "api-fields.md").read_text() == fields_page()
