"""`gemmad requests`: what waits and runs now."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gemmad.cli.control import ControlError, ask, strange_answer
from gemmad.cli.exits import fail

if TYPE_CHECKING:
    from gemmad.api.overview import RequestList
    from gemmad.dispatch.listing import Listed

_TITLES = ("ID", "WHERE", "AGE", "PROMPT", "IMAGES", "SAID", "NOTE")


def requests(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show the requests that wait or run: how old they are, where, and how far. Never what was written.

    Exit status: 0 shown, 1 the daemon does not answer, 3 not running, 4 no access.
    """
    try:
        body = ask("GET", "/requests")
        seen = read_requests(body)
    except ControlError as error:
        fail(str(error), error.code)
    if as_json:
        typer.echo(json.dumps(json.loads(body), indent=2))
    elif not seen.requests:
        typer.echo("no requests", err=not sys.stdout.isatty())
    else:
        for line in table(seen.requests):
            typer.echo(line)


def read_requests(body: bytes) -> RequestList:
    """What the daemon answered. Raises ControlError for an answer of another version that has not all of ours."""
    import msgspec

    from gemmad.api.overview import RequestList

    try:
        return msgspec.json.decode(body, type=RequestList)
    except msgspec.MsgspecError as error:
        raise strange_answer(error) from None


def table(requests: tuple[Listed, ...]) -> list[str]:
    """A line for each, below the titles."""
    rows = [_TITLES, *(_row(request) for request in requests)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def ids_for_completion() -> list[str]:
    """Ids that a shell may offer; none if the daemon cannot be asked."""
    try:
        seen = read_requests(ask("GET", "/requests", timeout_seconds=1.0))
    except ControlError:
        return []
    return list(dict.fromkeys(request.request_id for request in seen.requests))


def _row(request: Listed) -> tuple[str, ...]:
    from gemmad.cli.status_text import duration, one_line

    return (
        one_line(request.request_id),
        request.worker or "waits",
        duration(request.age_seconds),
        str(request.prompt_tokens),
        str(request.images or ""),
        f"{request.said_tokens}/{request.max_tokens}",
        _note(request),
    )


def _note(request: Listed) -> str:
    notes = ["suspect" if request.suspect else "", f"moved on {request.failovers}x" if request.failovers else ""]
    return ", ".join(note for note in notes if note)
