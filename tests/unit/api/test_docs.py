"""docs/api.md against the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

from starlette.routing import Route

from gemmad.api.app import create_app
from gemmad.api.errors import GONE, HTTP_CODES, TABLE
from gemmad.api.openai.chat_schema import MAX_TOOLS
from gemmad.api.openai.completion_schema import MAX_PROMPTS
from gemmad.api.openai.holds import MAX_OPTIONS
from gemmad.api.openai.parameters import CHAT, COMPLETION, MESSAGE, Parameter
from gemmad.api.openai.schema import (
    MAX_BIAS,
    MAX_CHOICES,
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_PRIORITY,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
)
from gemmad.api.services import Services
from gemmad.metrics import Metrics, Reading
from gemmad.planning.step import MOST_BIASES, MOST_LOGPROBS

TEXT = (Path(__file__).parents[3] / "docs" / "api.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    lines = TEXT[TEXT.index(f"\n{heading}\n") :].split("\n")
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" |")])
    return rows


def rows(parameters: tuple[Parameter, ...]) -> list[list[str]]:
    return [[f"`{parameter.name}`", parameter.handling, parameter.note] for parameter in parameters]


def test_every_field_is_documented() -> None:
    """The tables of fields say what the code does, line for line."""
    assert table("## `POST /v1/chat/completions`") == rows(CHAT)
    assert table("### Messages") == rows(MESSAGE)
    assert table("## `POST /v1/completions`") == rows(COMPLETION)


def test_every_error_is_documented() -> None:
    """The table of errors is the code's."""
    kinds = {(str(kind.status), kind.type, kind.code or "") for kind in TABLE.values() if kind.code != GONE}
    kinds |= {(str(status), "invalid_request_error", code) for status, code in HTTP_CODES.items()}
    documented = [(status, kind.strip("`"), code.strip("`")) for status, kind, code in table("## Errors")]
    assert sorted(documented) == sorted(kinds)


def test_every_endpoint_is_documented() -> None:
    """The tables of endpoints, the dashboard's among them, are the app's."""
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
        f"{method} {re.sub(':[a-z]+}', '}', route.path)}"
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    endpoints = {endpoint.strip("`") for endpoint, _ in table("## Endpoints")}
    pages = {route.strip("`") for route, *_ in table("## The dashboard")}
    assert not endpoints & pages
    assert endpoints | pages == served


def test_the_limits_are_the_codes() -> None:
    """Numbers in the table of limits are the code's."""
    limits = dict(cast("list[tuple[str, str]]", [tuple(row) for row in table("## Limits")]))
    assert MAX_MESSAGES == MAX_PARTS == int(limits["messages in a request, parts in a message"])
    assert limits["stop strings"] == f"{MAX_STOPS} of 1 to {MAX_STOP_CHARACTERS} characters"
    assert limits["choices of one prompt"] == str(MAX_CHOICES)
    assert limits["prompts of one completion, choices of all of them"] == str(MAX_PROMPTS)
    assert limits["biased token ids"] == str(MOST_BIASES)
    assert limits["tools"] == str(MAX_TOOLS)
    assert limits["strings of `guided_choice`"] == str(MAX_OPTIONS)
    notes = {parameter.name: parameter.note for parameter in CHAT}
    assert notes["n"].startswith(f"1 to {MAX_CHOICES} choices")
    assert f"{-MAX_PRIORITY} to {MAX_PRIORITY}" in notes["priority"]
    assert notes["logit_bias"] == f"up to {MOST_BIASES} token ids as keys, {-MAX_BIAS} to {MAX_BIAS} each"
    assert notes["top_logprobs"].startswith(f"0 to {MOST_LOGPROBS};")
    assert notes["tools"] == f"up to {MAX_TOOLS} functions"
    assert notes["guided_choice"].startswith(f"up to {MAX_OPTIONS} strings")
    prompt = next(parameter.note for parameter in COMPLETION if parameter.name == "prompt")
    assert f"up to {MAX_PROMPTS} of either" in prompt
